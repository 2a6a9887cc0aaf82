"""Staged file to output on real file systems: whole, or as it was before, and nothing beside it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish import Published, Staged, remove, sweep

NOBODY = 54321
CONTENT = b"\x00 any bytes\n\xff without a newline"


def publish(root: Path, output: str, content: bytes, mode: int = 0o644) -> Published:
    with Staged(str(root), output, mode) as staged:
        os.write(staged.fd, content)
        return staged.publish()


def refusal(root: Path, output: str) -> str:
    """What publishing says when it cannot be done."""
    with pytest.raises(RefreshFailed) as raised:
        publish(root, output, b"new")
    return str(raised.value)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def identity(path: Path) -> tuple[int, int, int, int]:
    """Changes whenever a file, or what a directory lists, is touched."""
    of = path.stat()
    return of.st_ino, of.st_mtime_ns, of.st_ctime_ns, of.st_mode


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = names(Path("/proc/self/fd"))
    yield
    assert names(Path("/proc/self/fd")) == before


@pytest.fixture
def unhelpful_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_bytes_are_the_ones_that_were_written(tmp_path: Path) -> None:
    published = publish(tmp_path, "output", CONTENT)
    assert published == Published(True, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "output").read_bytes() == CONTENT
    assert names(tmp_path) == ["output"]


@pytest.mark.usefixtures("unhelpful_umask")
def test_the_umask_does_not_count(tmp_path: Path) -> None:
    publish(tmp_path, "a/b/output", CONTENT)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b", "a/b/output")]
    assert modes == [0o755, 0o755, 0o644]


def test_the_mode_is_the_one_asked_for(tmp_path: Path) -> None:
    publish(tmp_path, "output", CONTENT, 0o600)
    assert stat.S_IMODE((tmp_path / "output").stat().st_mode) == 0o600


def test_the_mode_of_a_directory_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o700)
    publish(tmp_path, "a/output", CONTENT)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_unchanged_content_touches_neither_the_file_nor_its_directory(tmp_path: Path) -> None:
    publish(tmp_path, "output", CONTENT)
    before = identity(tmp_path / "output"), identity(tmp_path)
    assert publish(tmp_path, "output", CONTENT) == Published(
        False, len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
    )
    assert (identity(tmp_path / "output"), identity(tmp_path)) == before


@pytest.mark.parametrize("other", [b"", CONTENT[:-1], CONTENT[:-1] + b"\0", CONTENT + b"\0", CONTENT * 10000])
def test_changed_content_is_a_new_file(tmp_path: Path, other: bytes) -> None:
    publish(tmp_path, "output", CONTENT)
    before = identity(tmp_path / "output")
    assert publish(tmp_path, "output", other).changed
    assert (tmp_path / "output").read_bytes() == other
    assert identity(tmp_path / "output")[0] != before[0]


def test_another_mode_is_a_change(tmp_path: Path) -> None:
    publish(tmp_path, "output", CONTENT)
    assert publish(tmp_path, "output", CONTENT, 0o640).changed
    assert stat.S_IMODE((tmp_path / "output").stat().st_mode) == 0o640


def test_what_is_not_published_leaves_no_trace(tmp_path: Path) -> None:
    publish(tmp_path, "output", CONTENT)
    before = identity(tmp_path / "output"), identity(tmp_path)
    with Staged(str(tmp_path), "output", 0o600) as staged:
        os.write(staged.fd, b"half of i")
        assert staged.size() == 9
    assert (identity(tmp_path / "output"), identity(tmp_path)) == before


def test_a_symlink_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "output").symlink_to(target)
    publish(volume, "output", b"theirs")
    assert not (volume / "output").is_symlink()
    publish(volume, "output", b"ours")
    assert ((volume / "output").read_bytes(), target.read_bytes()) == (b"ours", b"theirs")


def test_a_hard_link_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "output").hardlink_to(tmp_path / "theirs")
    publish(tmp_path, "output", b"ours")
    assert ((tmp_path / "output").read_bytes(), (tmp_path / "theirs").read_bytes()) == (b"ours", b"theirs")


def test_a_fifo_in_the_way_is_replaced_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "output")
    publish(tmp_path, "output", CONTENT)
    assert (tmp_path / "output").read_bytes() == CONTENT


def test_a_socket_in_the_way_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(tmp_path):
        listening.bind("output")
    publish(tmp_path, "output", CONTENT)
    assert (tmp_path / "output").read_bytes() == CONTENT


def test_a_directory_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    assert refusal(tmp_path, "output") == (
        "cannot write output: a directory is in the way: remove it, or write to another path"
    )
    assert names(tmp_path) == ["output"]


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


def test_a_directory_that_may_not_be_written_is_an_error_with_a_way_out() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with somebody() as user:
            said = refusal(Path(name), "output")
        assert said == (
            f"cannot write output: permission denied for UID {user}, GID {os.getegid()}:"
            " set fsGroup, or runAsUser to the owner of the directory"
        )


@contextlib.contextmanager
def somebody() -> Iterator[int]:
    """Not root, to whom everything is permitted."""
    if os.geteuid():
        yield os.geteuid()
        return
    os.seteuid(NOBODY)
    try:
        yield NOBODY
    finally:
        os.seteuid(0)


@pytest.mark.slow
def test_somebody_else_changing_the_output_meanwhile_is_no_crash(tmp_path: Path) -> None:
    content, over = bytes(1 << 22), threading.Event()
    publish(tmp_path, "output", content)

    def meddle() -> None:
        while not over.is_set():
            for size in (1 << 22, 1 << 16):
                with contextlib.suppress(FileNotFoundError):
                    os.truncate(tmp_path / "output", size)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(10):
            publish(tmp_path, "output", content)
    finally:
        over.set()
        thread.join()


def test_an_output_can_be_taken_away(tmp_path: Path) -> None:
    publish(tmp_path, "a/output", CONTENT)
    assert remove(str(tmp_path), "a/output")
    assert not remove(str(tmp_path), "a/output")
    assert not remove(str(tmp_path), "no/such/directory/output")
    assert (names(tmp_path), names(tmp_path / "a")) == (["a"], [])


def test_only_the_symlink_is_taken_away_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "output").symlink_to("target")
    assert remove(str(tmp_path), "output")
    assert names(tmp_path) == ["target"]


def test_a_directory_is_not_taken_away(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    with pytest.raises(RefreshFailed) as raised:
        remove(str(tmp_path), "output")
    assert str(raised.value) == (
        "cannot write output: a directory is in the way: remove it, or write to another path"
    )


def test_the_sweep_takes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    left, living = (f".kubectl-sidecar-{digit * 16}.staged" for digit in "0f")
    for directory in (tmp_path, tmp_path / "a", tmp_path / "elsewhere"):
        directory.mkdir(exist_ok=True)
        (directory / left).touch()
    theirs = [
        "output", ".kubectl-sidecar-0.staged", f"x{left}", f"{left}x", left.replace("0", "F"), left.upper()
    ]  # fmt: skip
    for name in theirs:
        (tmp_path / name).touch()
    (tmp_path / left.replace("0", "1")).mkdir()
    (tmp_path / left.replace("0", "2")).symlink_to(tmp_path / "output")
    os.mkfifo(tmp_path / left.replace("0", "3"))
    kept = [*theirs, living, *(left.replace("0", digit) for digit in "123"), "a", "elsewhere"]
    with (tmp_path / living).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep(str(tmp_path), ["output", "a/output", "missing/output", f"{tmp_path}/a/absolute"])
    assert names(tmp_path) == sorted(kept)
    assert (names(tmp_path / "a"), names(tmp_path / "elsewhere")) == ([], [left])


# What follows needs file systems of a kind: in a mount namespace of a process's own.
HEAD = """
    import os, sys
    from pathlib import Path
    from kubectl_sidecar.errors import RefreshFailed
    from kubectl_sidecar.publish import Staged, sweep
    from tests.unit.test_publish import names, publish
    root = Path(sys.argv[1])
"""


def isolated(mounts: str, script: str, directory: Path) -> str:
    """Run a script where `mounts` hold, with `directory` as $1 and `root`; returns what it printed."""
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    code = textwrap.dedent(HEAD) + textwrap.dedent(script)
    python = [sys.executable, "-c", code, str(directory)]
    words = ["unshare", "--mount", *user, "--", "sh", "-ec", f'{mounts}; exec "$@"', "sh", *python]
    # $1 of the mounts is not there yet when they run: they get it by name.
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "DIR": str(directory)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_a_full_volume_keeps_the_last_good_content_and_recovers(tmp_path: Path) -> None:
    said = isolated(
        'mount -t tmpfs -o size=64k,nr_inodes=20 tmpfs "$DIR"',
        """
        publish(root, "output", b"good")
        before = os.stat(root / "output")
        filler = root / "filler"
        filler.write_bytes(bytes(60 << 10))
        try:
            with Staged(str(root), "output", 0o644) as staged:
                os.write(staged.fd, bytes(4 << 10))
        except OSError as error:
            print(error)
        filler.unlink()
        for number in range(20):
            try:
                (root / str(number)).touch()
            except OSError:
                break
        try:
            publish(root, "output", b"new")
        except RefreshFailed as error:
            print(error)
        print((root / "output").read_text(), os.stat(root / "output") == before)
        for path in root.glob("[0-9]*"):
            path.unlink()
        publish(root, "output", b"new")
        print((root / "output").read_text(), names(root))
        """,
        tmp_path,
    )
    assert said == (
        "[Errno 28] No space left on device\n"
        "cannot write output: no space left in the volume: it must hold the old and the new content at once\n"
        "good True\n"
        "new ['output']\n"
    )


@pytest.mark.slow
def test_a_volume_that_is_mounted_read_only_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    said = isolated(
        'mount --bind "$DIR" "$DIR"; mount -o remount,bind,ro "$DIR"',
        """
        try:
            publish(root, "output", b"new")
        except RefreshFailed as error:
            print(error)
        """,
        tmp_path,
    )
    assert said == (
        "cannot write output: the volume is mounted read-only: mount it without readOnly in this container\n"
    )


@pytest.mark.slow
def test_where_an_unnamed_file_cannot_be_named_it_is_copied(tmp_path: Path) -> None:
    said = isolated(
        "mount -t tmpfs tmpfs /proc",
        """
        content = os.urandom(3 << 20)
        os.umask(0o077)
        for changed in (True, False):
            assert publish(root, "output", content, 0o640).changed is changed
            assert (root / "output").read_bytes() == content
        print(oct((root / "output").stat().st_mode), names(root))
        """,
        tmp_path,
    )
    assert said == "0o100640 ['output']\n"


@pytest.mark.parametrize("mounts", ["true", "mount -t tmpfs tmpfs /proc"], ids=["linked", "copied"])
@pytest.mark.slow
def test_a_living_staged_file_with_a_name_is_not_swept(tmp_path: Path, mounts: str) -> None:
    said = isolated(
        mounts,
        """
        (root / "output").mkdir()  # so that the rename fails, after the file was given its name
        rename = os.rename

        def sweep_first(*arguments, **options):
            print(len(names(root)))
            sweep(str(root), ["output"])
            print(len(names(root)))
            rename(*arguments, **options)

        os.rename = sweep_first
        try:
            publish(root, "output", b"new")
        except RefreshFailed as error:
            print(error)
        print(names(root))
        """,
        tmp_path,
    )
    assert said == (
        "2\n2\n"
        "cannot write output: a directory is in the way: remove it, or write to another path\n"
        "['output']\n"
    )
