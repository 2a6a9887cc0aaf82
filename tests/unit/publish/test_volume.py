"""The way to the directory of an output: made as needed, never through a symlink, in the volume's group."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubectl_sidecar.errors import RefreshFailed
from tests.unit.publish.publishing import CONTENT, isolated, mode, names, publish


def refusal(root: Path, output: str) -> str:
    """What publishing says when it cannot be done."""
    with pytest.raises(RefreshFailed) as raised:
        publish(root, output, CONTENT)
    return str(raised.value)


def test_the_mode_of_a_directory_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o700)
    publish(tmp_path, "a/output", CONTENT)
    assert mode(tmp_path / "a") == 0o700


def test_a_symlinked_directory_is_an_error_and_nothing_is_written_through_it(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    volume.mkdir()
    (volume / "a").symlink_to(outside)
    expected = "cannot write a/output: a is a symlink or a file, where a directory was expected"
    assert refusal(volume, "a/output") == expected
    assert refusal(volume, "a/b/output") == expected.replace("a/output", "a/b/output")
    assert names(outside) == []


def test_a_file_in_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert refusal(tmp_path, "a/output") == (
        "cannot write a/output: a is a symlink or a file, where a directory was expected"
    )


def test_the_output_directory_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    publish(tmp_path / "link", "output", CONTENT)
    assert names(tmp_path / "real") == ["output"]


def test_an_output_directory_that_went_away_is_an_error(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone", "output") == (
        f"cannot write output: No such file or directory ({tmp_path}/gone)"
    )


def test_an_absolute_output_is_written_where_it_says_and_its_directory_is_not_made(tmp_path: Path) -> None:
    publish(Path("/no/such/root"), f"{tmp_path}/output", CONTENT)
    assert (tmp_path / "output").read_bytes() == CONTENT
    missing = f"{tmp_path}/missing/output"
    assert refusal(tmp_path, missing) == f"cannot write {missing}: No such file or directory (missing)"
    assert names(tmp_path) == ["output"]


def test_a_name_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    assert refusal(tmp_path, "x" * 256) == f"cannot write {'x' * 256}: File name too long"
    assert names(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_made_below_a_volume_keeps_its_group(tmp_path: Path, umask: int) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory to another group")
    group = 54322
    os.chown(tmp_path, -1, group)
    tmp_path.chmod(0o2775)
    before = os.umask(umask)
    try:
        publish(tmp_path, "a/b/output", CONTENT)
    finally:
        os.umask(before)
    assert [mode(tmp_path / path) for path in ("a", "a/b", "a/b/output")] == [0o2755, 0o2755, 0o644]
    assert {(tmp_path / path).stat().st_gid for path in ("a", "a/b", "a/b/output")} == {group}


def test_the_group_is_kept_for_a_user_who_is_in_it_only_by_the_volume(tmp_path: Path) -> None:
    """As the kubelet does it with fsGroup: a supplementary group of the user."""
    if os.geteuid():
        pytest.skip("only root can give a directory to another group")
    tmp_path.parent.chmod(0o755)
    os.chown(tmp_path, -1, 54322)
    tmp_path.chmod(0o2775)
    said = isolated(
        "true",
        """
        os.chdir("/")
        os.setgroups([54322])
        os.setresgid(54321, 54321, 54321)
        os.umask(0o077)
        publish(root, "a/output", b"x", 0o640)
        for path in ("a", "a/output"):
            found = os.stat(root / path)
            print(oct(found.st_mode), found.st_gid)
        """,
        tmp_path,
    )
    assert said == "0o42755 54322\n0o100640 54322\n"


def test_a_directory_whose_mode_cannot_be_set_is_used_as_it_is(tmp_path: Path) -> None:
    said = isolated(
        "true",
        """
        refuse(fchmod=errno.EPERM)
        os.umask(0o077)
        logging.disable()
        print(publish(root, "a/output", b"x").changed, oct(mode(root / "a")))
        """,
        tmp_path,
    )
    assert said == "True 0o700\n"
    assert stat.S_ISDIR((tmp_path / "a").stat().st_mode)
