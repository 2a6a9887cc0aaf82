"""The private directory: ours alone, one for each process, and gone at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from kubectl_sidecar.status.document import candidates
from kubectl_sidecar.status.rundir import runtime_directory

SOMEBODY = 54321


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    return {"TMPDIR": str(tmp_path)}


def used(environ: Mapping[str, str]) -> Path:
    """The directory that a program would get now."""
    with runtime_directory(environ) as directory:
        assert directory
        return Path(directory)


def test_it_is_private_and_gone_at_the_end(environ: Mapping[str, str], tmp_path: Path) -> None:
    with runtime_directory(environ) as directory:
        assert directory == candidates(environ)[0]
        made = Path(directory)
        assert (made.parent, stat.S_IMODE(made.stat().st_mode)) == (tmp_path, 0o700)
        (made / "kubectl").mkdir()
        (made / "kubectl/file").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_directory_that_is_a_symlink_is_left_out_of_its_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert used({"TMPDIR": f"{tmp_path}/link"}).parent == tmp_path / "real"


def test_two_at_once_have_one_each(environ: Mapping[str, str], tmp_path: Path) -> None:
    with runtime_directory(environ) as first, runtime_directory(environ) as second:
        assert second == f"{first}.2"
        with runtime_directory(environ) as third:
            assert third == f"{first}.3"
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_used_again_or_removed(environ: Mapping[str, str], tmp_path: Path) -> None:
    left = Path(candidates(environ)[0])
    of_another_container = left.with_name(f"kubectl-sidecar-{os.geteuid()}-1")
    for directory in (left, of_another_container):
        directory.mkdir(0o700)
        (directory / "file").touch()
    assert used(environ) == left
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_one_uses_is_not_removed(environ: Mapping[str, str]) -> None:
    with runtime_directory(environ) as first:
        assert first
        used(environ)
        assert Path(first).exists()


def test_a_directory_that_others_can_read_is_not_used(environ: Mapping[str, str]) -> None:
    planted = Path(candidates(environ)[0])
    planted.mkdir()
    planted.chmod(0o755)
    assert used(environ) == planted.with_name(f"{planted.name}.2")
    assert planted.exists()


def test_somebody_elses_directory_is_not_used(environ: Mapping[str, str]) -> None:
    if os.geteuid():
        pytest.skip("only root can make a directory of somebody else")
    planted = Path(candidates(environ)[0])
    planted.mkdir(0o700)
    os.chown(planted, SOMEBODY, SOMEBODY)
    assert used(environ) == planted.with_name(f"{planted.name}.2")
    assert planted.exists()


def test_a_planted_symlink_is_not_followed(environ: Mapping[str, str], tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(0o700)
    (target / "file").touch()
    planted = Path(candidates(environ)[0])
    planted.symlink_to(target)
    assert used(environ) == planted.with_name(f"{planted.name}.2")
    assert (target / "file").exists()


def test_a_directory_that_its_holder_removes_just_now_is_not_used(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our open() and our lock somebody else's directory takes its name."""
    path = Path(candidates(environ)[0])
    lock = fcntl.flock

    def removed_meanwhile(fd: int, how: int) -> None:
        lock(fd, how)
        monkeypatch.setattr(fcntl, "flock", lock)
        path.rename(path.with_name("removed"))
        path.mkdir(0o700)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    assert used(environ) == path.with_name(f"{path.name}.2")


def test_where_locks_are_not_supported_it_works_all_the_same(
    environ: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS without a lock server; nobody can tell then whether another directory is in use."""

    def not_supported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", not_supported)
    of_another_container = tmp_path / f"kubectl-sidecar-{os.geteuid()}-1"
    of_another_container.mkdir(0o700)
    assert used(environ) == Path(candidates(environ)[0])
    assert list(tmp_path.iterdir()) == [of_another_container]


@pytest.mark.parametrize(
    ("read_only", "used"), [("", "/tmp"), ("/tmp", "/dev/shm"), ("/tmp /dev/shm", "None")]
)
def test_the_first_directory_that_can_be_written_is_used(read_only: str, used: str) -> None:
    mounts = (
        f'for path in {read_only}; do mount --bind "$path" "$path"; mount -o remount,bind,ro "$path"; done\n'
    )
    script = (
        "import os\nfrom kubectl_sidecar.status.rundir import runtime_directory\n"
        "with runtime_directory({}) as directory: print(directory and os.path.dirname(directory))"
    )
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    words = ["unshare", "--mount", *user, "--", "sh", "-ec", f'{mounts}exec "$@"', "sh"]
    done = subprocess.run([*words, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{used}\n"
