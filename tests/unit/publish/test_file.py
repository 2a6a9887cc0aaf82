"""Content to a file on real file systems: whole, or as it was before, and nothing beside it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish.directory import sweep
from kubectl_sidecar.publish.file import OutputFile, Published
from tests.harness.waiting import wait_until
from tests.unit.process.running import shell, started
from tests.unit.publish.inotify import watching
from tests.unit.publish.publishing import CONTENT, STAGED, identity, isolated, mode, names, publish, put

NOBODY = 54321


def refusal(root: Path, output: str) -> str:
    """What publishing says when it cannot be done."""
    with pytest.raises(RefreshFailed) as raised:
        publish(root, output, b"new")
    return str(raised.value)


@pytest.fixture
def unhelpful_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_bytes_are_the_ones_that_were_written(volume: Path) -> None:
    published = publish(volume, "output", CONTENT)
    assert published == Published(True, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert (volume / "output").read_bytes() == CONTENT
    assert names(volume) == ["output"]


def test_what_is_published_need_not_be_small(volume: Path) -> None:
    content = os.urandom((3 << 20) + 7)
    publish(volume, "output", content)
    assert (volume / "output").read_bytes() == content


def test_an_empty_content_is_published_too(tmp_path: Path) -> None:
    assert publish(tmp_path, "output", b"") == Published(True, 0, hashlib.sha256(b"").hexdigest())
    assert (tmp_path / "output").read_bytes() == b""


def test_content_that_is_no_memory_is_published_too(tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as content:
        content.write(CONTENT)
        content.flush()
        assert OutputFile(str(tmp_path), "output", 0o644).publish(content.fileno()).changed
    assert (tmp_path / "output").read_bytes() == CONTENT


def test_what_a_stage_left_running_cannot_write_to_what_is_published(tmp_path: Path) -> None:
    ready, go_on, done, volume = (tmp_path / name for name in ("ready", "go_on", "done", "volume"))
    os.mkfifo(go_on)
    volume.mkdir()
    file = OutputFile(str(volume), "output", 0o644)
    late = f"touch {ready}; read x < {go_on}; echo later; touch {done}"
    stage = f'setsid sh -c "{late}" & until [ -e {ready} ]; do sleep 0.01; done; echo complete'
    with started(shell(stage)) as (pipeline, output):
        assert pipeline.wait().statuses == (0,)
        assert file.publish(output).changed
        go_on.write_text("\n")
        wait_until(done.exists)
        assert not file.publish(output).changed
    assert ((volume / "output").read_bytes(), names(volume)) == (b"complete\n", ["output"])


@pytest.mark.usefixtures("unhelpful_umask")
def test_the_umask_does_not_count(tmp_path: Path) -> None:
    publish(tmp_path, "a/b/output", CONTENT)
    assert [mode(tmp_path / path) for path in ("a", "a/b", "a/b/output")] == [0o755, 0o755, 0o644]


@pytest.mark.parametrize("wanted", [0o600, 0o444, 0o666, 0o640])
def test_the_mode_is_the_one_asked_for(tmp_path: Path, wanted: int) -> None:
    publish(tmp_path, "output", CONTENT, wanted)
    assert mode(tmp_path / "output") == wanted


def test_unchanged_content_is_not_one_event_for_whoever_watches(volume: Path) -> None:
    file = OutputFile(str(volume), "a/output", 0o644)
    put(file, CONTENT)
    before = identity(volume / "a/output"), identity(volume / "a"), identity(volume)
    with watching(volume, volume / "a", volume / "a/output") as watcher:
        for _ in range(3):
            assert put(file, CONTENT) == Published(False, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
            assert watcher.events() == []
        put(file, b"other")
        assert "MOVED_TO output" in watcher.events()
    assert identity(volume / "a") != before[1]


def test_an_output_that_is_gone_already_is_not_one_event_for_whoever_watches(volume: Path) -> None:
    file = OutputFile(str(volume), "output", 0o644)
    put(file, CONTENT)
    assert file.remove() == Published(True, None, None)
    with watching(volume) as watcher:
        assert file.remove() == Published(False, None, None)
        assert watcher.events() == []


def test_after_a_start_what_is_there_already_is_read_once_and_not_written(volume: Path) -> None:
    publish(volume, "output", CONTENT)
    before = identity(volume / "output"), identity(volume)
    file = OutputFile(str(volume), "output", 0o644)
    assert not put(file, CONTENT).changed
    assert (identity(volume / "output"), identity(volume)) == before
    with watching(volume, volume / "output") as watcher:
        assert not put(file, CONTENT).changed
        assert watcher.events() == []


@pytest.mark.parametrize("other", [b"", CONTENT[:-1], CONTENT[:-1] + b"\0", CONTENT + b"\0", CONTENT * 10000])
@pytest.mark.parametrize("restarted", [False, True])
def test_changed_content_is_a_new_file(tmp_path: Path, other: bytes, restarted: bool) -> None:
    file = OutputFile(str(tmp_path), "output", 0o644)
    put(file, CONTENT)
    before = identity(tmp_path / "output")
    assert (publish(tmp_path, "output", other) if restarted else put(file, other)).changed
    assert (tmp_path / "output").read_bytes() == other
    assert identity(tmp_path / "output")[0] != before[0]
    assert names(tmp_path) == ["output"]


def test_content_that_comes_back_is_published_again(tmp_path: Path) -> None:
    file = OutputFile(str(tmp_path), "output", 0o644)
    assert [put(file, content).changed for content in (b"a", b"b", b"a", b"a")] == [True, True, True, False]


def test_another_mode_is_a_change(tmp_path: Path) -> None:
    publish(tmp_path, "output", CONTENT)
    assert publish(tmp_path, "output", CONTENT, 0o640).changed
    assert mode(tmp_path / "output") == 0o640


def replace(output: Path) -> None:
    output.unlink()
    output.write_bytes(b"x" * len(CONTENT))


def make_symlink(output: Path) -> None:
    output.rename(f"{output}.old")
    output.symlink_to(f"{output}.old")


MEDDLINGS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "overwritten": lambda output: output.write_bytes(CONTENT[::-1]),
    "emptied": lambda output: output.write_bytes(b""),
    "another mode": lambda output: output.chmod(0o600),
    "replaced": replace,
    "a symlink": make_symlink,
}


def wait_for_another_time(file: Path) -> None:
    """Wait until what is written now has another time than the file: some kernels' ticks only every 10 ms."""
    with tempfile.NamedTemporaryFile(dir=file.parent) as probe:

        def differs() -> bool:
            os.fchmod(probe.fileno(), 0o600)
            return os.fstat(probe.fileno()).st_ctime_ns > file.stat().st_ctime_ns

        wait_until(differs, interval=0.001)


@pytest.mark.parametrize("what", MEDDLINGS)
def test_what_somebody_else_did_to_the_output_is_put_right(volume: Path, what: str) -> None:
    file, output = OutputFile(str(volume), "output", 0o644), volume / "output"
    put(file, CONTENT)
    wait_for_another_time(output)
    MEDDLINGS[what](output)
    assert put(file, CONTENT).changed
    assert (output.read_bytes(), mode(output), output.is_symlink()) == (CONTENT, 0o644, False)


def test_a_touched_output_is_read_once_and_not_written(tmp_path: Path) -> None:
    file, output = OutputFile(str(tmp_path), "output", 0o644), tmp_path / "output"
    put(file, CONTENT)
    os.utime(output, ns=(0, 0))
    before = identity(output)
    with watching(output) as watcher:
        assert not put(file, CONTENT).changed
        assert "OPEN" in watcher.events()
        assert not put(file, CONTENT).changed
        assert watcher.events() == []
    assert identity(output) == before


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
    os.mkfifo(tmp_path / "output", 0o644)
    publish(tmp_path, "output", b"")
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


def test_a_directory_that_may_not_be_written_is_an_error_with_a_way_out() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with somebody() as user:
            said = refusal(Path(name), "output")
        assert said == (
            f"cannot write output: permission denied for UID {user}, GID {os.getegid()}:"
            " set fsGroup, or runAsUser to the owner of the directory"
        )


def test_an_output_that_may_not_be_read_is_replaced() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        with somebody():
            file = OutputFile(name, "output", 0o200)
            assert [put(file, CONTENT).changed for _ in range(2)] == [True, False]
            assert publish(Path(name), "output", CONTENT, 0o200).changed


@pytest.mark.slow
def test_somebody_else_changing_the_output_meanwhile_is_no_crash(tmp_path: Path) -> None:
    content, over = bytes(1 << 22), threading.Event()
    file = OutputFile(str(tmp_path), "output", 0o644, durable=False)
    put(file, content)

    def meddle() -> None:
        while not over.is_set():
            for size in (1 << 22, 1 << 16):
                with contextlib.suppress(FileNotFoundError):
                    os.truncate(tmp_path / "output", size)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(10):
            put(file, content)
    finally:
        over.set()
        thread.join()
    put(file, content)
    assert (tmp_path / "output").read_bytes() == content


def test_an_output_can_be_taken_away_and_come_back(tmp_path: Path) -> None:
    file = OutputFile(str(tmp_path), "a/output", 0o644)
    put(file, CONTENT)
    assert file.remove() == Published(True, None, None)
    assert file.remove() == Published(False, None, None)
    assert (names(tmp_path), names(tmp_path / "a")) == (["a"], [])
    assert put(file, CONTENT).changed
    assert OutputFile(str(tmp_path), "no/such/directory/output", 0o644).remove() == Published(
        False, None, None
    )
    assert names(tmp_path) == ["a"]


def test_only_the_symlink_is_taken_away_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "output").symlink_to("target")
    assert OutputFile(str(tmp_path), "output", 0o644).remove().changed
    assert names(tmp_path) == ["target"]


def test_a_directory_is_not_taken_away(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    with pytest.raises(RefreshFailed) as raised:
        OutputFile(str(tmp_path), "output", 0o644).remove()
    assert str(raised.value) == (
        "cannot write output: a directory is in the way: remove it, or write to another path"
    )


def test_the_sweep_takes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    left, living = (STAGED.format(digit * 16) for digit in "0f")
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


# What follows needs file systems of a kind, or calls that are refused.
def slow(value: str) -> object:
    return pytest.param(value, marks=pytest.mark.slow)


FULL = "cannot write output: no space left in the volume: it must hold the old and the new content at once\n"


@pytest.mark.slow
def test_a_full_volume_keeps_the_last_good_content_and_recovers(tmp_path: Path) -> None:
    said = isolated(
        'mount -t tmpfs -o size=64k,nr_inodes=20 tmpfs "$DIR"',
        """
        def attempt():
            try:
                print(put(file, bytes(12 << 10)).changed)
            except RefreshFailed as error:
                print(error)

        file = OutputFile(str(root), "output", 0o644)
        put(file, b"good")
        before = os.stat(root / "output")
        filler = root / "filler"
        for size in range(44, 61, 4):  # KiB: from no space at all to too little
            filler.write_bytes(bytes(size << 10))
            if size > 48:
                attempt()
        filler.unlink()
        for number in range(20):
            try:
                (root / str(number)).touch()
            except OSError:
                break
        attempt()
        print((root / "output").read_text(), os.stat(root / "output") == before)
        for path in root.glob("[0-9]*"):
            path.unlink()
        attempt()
        print((root / "output").read_bytes() == bytes(12 << 10), names(root))
        """,
        tmp_path,
    )
    assert said == 4 * FULL + "good True\nTrue\nTrue ['output']\n"


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
def test_on_ext4_unchanged_content_is_not_one_event_and_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root and mkfs.ext4")
    image = tmp_path / "image"
    with image.open("wb") as made:
        made.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", image], check=True)
    volume = tmp_path / "volume"
    volume.mkdir()
    said = isolated(
        f'mount -o loop {image} "$DIR"',
        """
        file = OutputFile(str(root), "output", 0o644)
        put(file, b"good")
        with watching(root, root / "output") as watcher:
            print(put(file, b"good").changed, watcher.events())
        try:
            put(file, os.urandom(8 << 20))
        except RefreshFailed as error:
            print(error)
        print((root / "output").read_text(), names(root))
        """,
        volume,
    )
    assert said == f"False []\n{FULL}good ['lost+found', 'output']\n"


def test_a_living_staged_file_is_not_swept(tmp_path: Path) -> None:
    # The rename fails, after the staged file was written: what is there then is looked at.
    said = isolated(
        "true",
        """
        (root / "output").mkdir()
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


def test_a_staged_file_that_is_swept_before_it_is_locked_is_made_once_more(tmp_path: Path) -> None:
    said = isolated(
        "true",
        """
        import fcntl

        flock = fcntl.flock

        def sweep_first(*arguments):
            fcntl.flock = flock
            sweep(str(root), ["output"])
            print(names(root))
            flock(*arguments)

        fcntl.flock = sweep_first
        print(publish(root, "output", b"new").changed, (root / "output").read_text())
        print(names(root))
        """,
        tmp_path,
    )
    assert said == "[]\nTrue new\n['output']\n"


@pytest.mark.parametrize("code", ["ENOLCK", *map(slow, ["ENOSYS", "EOPNOTSUPP"])])
def test_without_locks_everything_else_works(tmp_path: Path, code: str) -> None:
    said = isolated(
        "true",
        f"""
        refuse(flock=errno.{code})
        (root / STAGED.format("0" * 16)).touch()
        sweep(str(root), ["output"])
        print(names(root))
        file = OutputFile(str(root), "output", 0o644)
        changed = [put(file, content).changed for content in (b"old", b"new", b"new")]
        print(changed, (root / "output").read_text())
        print(names(root))
        """,
        tmp_path,
    )
    assert said == "[]\n[True, True, False] new\n['output']\n"


@pytest.mark.parametrize("code", ["EINVAL", slow("ENOSYS")])
def test_a_file_system_that_cannot_be_synced_is_no_failure(tmp_path: Path, code: str) -> None:
    said = isolated(
        "true", f'refuse(fsync=errno.{code}); print(publish(root, "output", b"new").changed)', tmp_path
    )
    assert said == "True\n"
    assert (tmp_path / "output").read_bytes() == b"new"


def test_a_disk_that_fails_when_it_is_synced_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"old")
    said = isolated(
        "true",
        """
        refuse(fsync=errno.EIO)
        try:
            publish(root, "output", b"new")
        except RefreshFailed as error:
            print(error)
        print(OutputFile(str(root), "other", 0o644, durable=False).publish(os.memfd_create("x")).changed)
        """,
        tmp_path,
    )
    assert said == "cannot write output: Input/output error\nTrue\n"
    assert ((tmp_path / "output").read_bytes(), names(tmp_path)) == (b"old", ["other", "output"])


# With the errno 0 the call is left out, and said to have succeeded: some file systems ignore a mode.
@pytest.mark.parametrize("code", ["EPERM", *map(slow, ["EOPNOTSUPP", "0"])])
def test_a_mode_that_cannot_be_had_is_said_once_and_no_failure(tmp_path: Path, code: str) -> None:
    said = isolated(
        "true",
        f"""
        class Handler(logging.Handler):
            def emit(self, record):
                print(record.levelname, record.task, record.getMessage())

        logging.getLogger("kubectl_sidecar").addHandler(Handler())
        refuse(fchmod={code if code == "0" else f"errno.{code}"})
        os.umask(0o022)
        for output, wanted in (("a", 0o644), ("b", 0o666), ("c/d", 0o600)):
            file = OutputFile(str(root), output, wanted)
            changed = [put(file, content).changed for content in (b"1", b"2", b"2", b"3")]
            print(changed, oct(mode(root / output)))
        """,
        tmp_path,
    )
    assert said == (
        "[True, True, False, True] 0o644\n"
        "WARNING b its mode is 0644 and not 0666: the file system does not let it be changed\n"
        "[True, True, False, True] 0o644\n"
        "[True, True, False, True] 0o600\n"
    )
