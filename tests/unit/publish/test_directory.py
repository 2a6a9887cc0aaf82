"""Contents to the files of a directory on real file systems: all of them at once, or as they were before."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish.directory import OutputDirectory, sweep
from kubectl_sidecar.publish.file import Published
from tests.unit.publish.inotify import watching
from tests.unit.publish.publishing import identity, isolated, mode, names, put

OURS = re.compile(r"\.\.kubectl-sidecar-[0-9a-f]{16}")
READING = ("OPEN", "ACCESS", "CLOSE_NOWRITE")
FILES = {"a.json": "{}\n", "b": "text"}


def digest(files: Mapping[str, str]) -> str:
    lines = (f"{hashlib.sha256(files[name].encode()).hexdigest()}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def directory(
    root: Path, output: str = "d/", mode: int = 0o644, *, allow_empty: bool = False
) -> OutputDirectory:
    return OutputDirectory(str(root), output, mode, allow_empty=allow_empty)


def write(output: OutputDirectory, files: object) -> Published:
    return put(output, json.dumps(files).encode())


def refusal(output: OutputDirectory, files: object) -> str:
    with pytest.raises(RefreshFailed) as raised:
        write(output, files)
    return str(raised.value)


def generations(path: Path) -> list[str]:
    return [name for name in names(path) if OURS.fullmatch(name)]


def content(path: Path) -> dict[str, str]:
    """What a reader of the visible names finds, when all that is ours is as it must be."""
    (generation,) = generations(path)
    assert (path / "..data").readlink() == Path(generation)
    visible = [name for name in names(path) if name not in ("..data", generation)]
    assert visible == names(path / generation)
    assert [(path / name).readlink() for name in visible] == [Path("..data", name) for name in visible]
    return {name: (path / name).read_text() for name in visible}


def everything(root: Path) -> dict[str, tuple[object, ...]]:
    """Each path below, with what changes when it is touched, in any way."""
    found = {path: path.lstat() for path in sorted(root.rglob("*"))}
    return {str(path): (of.st_ino, of.st_mtime_ns, of.st_ctime_ns, of.st_mode) for path, of in found.items()}


def test_the_files_are_in_the_layout_of_a_mounted_config_map(volume: Path) -> None:
    assert write(directory(volume), FILES) == Published(True, 7, digest(FILES))
    assert content(volume / "d") == FILES
    assert names(volume) == ["d"]


def test_the_digest_is_what_sha256sum_says(tmp_path: Path) -> None:
    published = write(directory(tmp_path), FILES)
    command = "LC_ALL=C sha256sum * | sha256sum"
    said = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path / "d", capture_output=True, check=True, text=True
    )
    assert said.stdout.split()[0] == published.sha256


def test_what_is_published_need_not_be_small_and_may_be_binary(tmp_path: Path) -> None:
    text = "é\0" * (1 << 20)
    write(directory(tmp_path), {"text": text, "binary": {"base64": "AP/+"}})
    assert (tmp_path / "d/text").read_text() == text
    assert (tmp_path / "d/binary").read_bytes() == b"\0\xff\xfe"


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        {"a.json": "{}\n"},
        {"a.json": "{}\n", "b": "texT"},
        {"a.json": "{}\n", "b": "longer text"},
        {"a.json": "{}\n", "b": "text", "c": ""},
        {"c": "{}\n", "d": "text"},
    ],
)
def test_a_change_is_a_new_generation_and_the_old_one_goes(
    tmp_path: Path, other: dict[str, str], restarted: bool
) -> None:
    output = directory(tmp_path)
    write(output, FILES)
    before = generations(tmp_path / "d")
    assert write(directory(tmp_path) if restarted else output, other).changed
    assert content(tmp_path / "d") == other
    assert generations(tmp_path / "d") != before
    assert write(output, FILES).changed
    assert content(tmp_path / "d") == FILES


def test_without_a_change_there_is_not_one_event_for_whoever_watches(volume: Path) -> None:
    output, path = directory(volume), volume / "d"
    unchanged = write(output, FILES)
    (path / "theirs").touch()
    before = everything(volume)
    watched = [volume, path, path / "..data", *(path / name for name in FILES)]
    with watching(*watched) as watcher:
        for text in (FILES, dict(reversed(FILES.items())), {**FILES, "b": {"base64": "dGV4dA=="}}):
            assert write(output, text) == Published(False, unchanged.size, unchanged.sha256)
            assert put(output, json.dumps(text, indent=3).encode()) == Published(
                False, unchanged.size, unchanged.sha256
            )
        assert watcher.events() == []
    assert everything(volume) == before


def test_a_change_replaces_data_once_when_every_name_is_there(volume: Path) -> None:
    output, path = directory(volume), volume / "d"
    write(output, FILES)
    with watching(path) as watcher:
        for number in range(20):
            write(output, {"b": str(number), f"c{number}": ""})
            plain = [OURS.sub("..ours", event) for event in watcher.events() if not event.startswith(READING)]
            gone = "DELETE a.json" if number == 0 else f"DELETE c{number - 1}"
            made = [
                "CREATE ..ours",
                f"CREATE c{number}",
                "CREATE ..ours",
                "MOVED_FROM ..ours",
                "MOVED_TO ..data",
            ]
            assert plain[:5] == made
            assert sorted(plain[5:]) == ["DELETE ..ours", gone]


def test_after_a_start_what_is_there_already_is_read_once_and_not_written(volume: Path) -> None:
    write(directory(volume), FILES)
    before = everything(volume)
    output = directory(volume)
    sweep(str(volume), ["d/"])
    assert not write(output, FILES).changed
    with watching(volume, volume / "d", volume / "d/..data") as watcher:
        assert not write(output, FILES).changed
        assert watcher.events() == []
    assert everything(volume) == before


def overwrite(file: Path) -> None:
    file.write_bytes(file.read_bytes()[::-1])


def replace_with_symlink(file: Path) -> None:
    file.rename(file.parent / "moved")
    file.symlink_to("moved")


def point_elsewhere(data: Path) -> None:
    shutil.copytree(data, data.parent.parent / "elsewhere")
    data.unlink()
    data.symlink_to("../elsewhere")


MEDDLINGS: dict[str, Callable[[Path], object]] = {
    "a name removed": lambda d: (d / "b").unlink(),
    "a file removed": lambda d: (d / "..data/b").unlink(),
    "a file added": lambda d: (d / "..data/x").touch(),
    "overwritten": lambda d: overwrite(d / "b"),
    "emptied": lambda d: (d / "b").write_text(""),
    "another mode": lambda d: (d / "b").chmod(0o600),
    "a symlink": lambda d: replace_with_symlink(d / "..data" / "b"),
    "..data removed": lambda d: (d / "..data").unlink(),
    "..data elsewhere": lambda d: point_elsewhere(d / "..data"),
    "the generation removed": lambda d: shutil.rmtree(d / (d / "..data").readlink()),
    "the generation a symlink": lambda d: replace_with_symlink(d / (d / "..data").readlink()),
    "all removed": shutil.rmtree,
}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("what", MEDDLINGS)
def test_what_somebody_else_did_to_it_is_put_right(tmp_path: Path, what: str, restarted: bool) -> None:
    output, path = directory(tmp_path), tmp_path / "d"
    write(output, FILES)
    # A time of its own for what is written now: some kernels' ticks come every 10 ms only.
    for file in path.rglob("*"):
        os.utime(file, ns=(0, 0), follow_symlinks=False)
    assert not write(output, FILES).changed
    MEDDLINGS[what](path)
    assert write(directory(tmp_path) if restarted else output, FILES).changed
    for left in ("moved", "x"):
        (path / left).unlink(missing_ok=True) if not (path / left).is_dir() else shutil.rmtree(path / left)
    assert content(path) == FILES
    assert [mode(path / name) for name in FILES] == [0o644, 0o644]


def test_what_somebody_does_to_it_while_it_is_published_is_put_right_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, path, rename = directory(tmp_path), tmp_path / "d", os.rename

    def rename_and_meddle(source: str, target: str, **options: int) -> None:
        rename(source, target, **options)
        (path / "b").unlink()

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename_and_meddle)
        write(output, FILES)
    assert names(path)[2:] == ["a.json"]
    assert write(output, FILES).changed
    assert content(path) == FILES


def test_everything_is_on_the_disk_before_it_is_published_and_that_before_the_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, steps = directory(tmp_path), []
    write(output, FILES)
    fsync, rename, rmdir = os.fsync, os.rename, os.rmdir

    def note_fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink().relative_to(tmp_path)
        steps.append(f"sync {OURS.sub('..ours', str(path))}")
        fsync(fd)

    def note_rename(source: str, target: str, **options: int) -> None:
        steps.append(f"publish {target}")
        rename(source, target, **options)

    def note_rmdir(name: str, *, dir_fd: int) -> None:
        steps.append("remove the old one")
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "rmdir", note_rmdir)
    write(output, {"a": "", "b": ""})
    assert steps == [
        "sync d/..ours/a", "sync d/..ours/b", "sync d/..ours",
        "publish ..data", "sync d", "remove the old one",
    ]  # fmt: skip


def test_a_touched_file_is_read_once_and_not_written(tmp_path: Path) -> None:
    output, path = directory(tmp_path), tmp_path / "d"
    write(output, FILES)
    os.utime(path / "b", ns=(0, 0))
    before = everything(tmp_path)
    with watching(path / "b") as watcher:
        assert not write(output, FILES).changed
        assert "OPEN" in watcher.events()
        assert not write(output, FILES).changed
        assert watcher.events() == []
    assert everything(tmp_path) == before


@pytest.mark.parametrize("wanted", [0o600, 0o444, 0o666])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path: Path, wanted: int) -> None:
    before = os.umask(0o077)
    try:
        write(directory(tmp_path, "a/d/", wanted), FILES)
    finally:
        os.umask(before)
    path = tmp_path / "a/d"
    assert [mode(each) for each in (path.parent, path, path / "..data")] == [0o755] * 3
    assert [mode(path / name) for name in FILES] == [wanted] * 2
    assert write(directory(tmp_path, "a/d/", 0o640), FILES).changed
    assert [mode(path / name) for name in FILES] == [0o640] * 2


def test_what_is_made_keeps_the_group_of_the_volume(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory to another group")
    os.chown(tmp_path, -1, 54322)
    tmp_path.chmod(0o2775)
    before = os.umask(0o077)
    try:
        write(directory(tmp_path), FILES)
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.name != "..data"]
    assert {path.stat().st_gid for path in made} == {54322}
    assert {mode(path) for path in made if path.is_dir()} == {0o2755}


def test_the_output_directory_itself_and_an_absolute_directory_that_exists_can_be_it(tmp_path: Path) -> None:
    write(directory(tmp_path, "./"), FILES)
    assert content(tmp_path) == FILES
    absolute = Path(tempfile.mkdtemp(dir=tmp_path))
    write(directory(Path("/no/such/root"), f"{absolute}/"), FILES)
    assert content(absolute) == FILES
    missing = f"{tmp_path}/missing/"
    assert (
        refusal(directory(tmp_path, missing), FILES)
        == f"cannot write {missing}: No such file or directory (missing)"
    )


def test_without_files_it_is_published_only_if_that_is_allowed(tmp_path: Path) -> None:
    write(directory(tmp_path), FILES)
    assert refusal(directory(tmp_path), {}) == (
        "the object is empty, and a directory without files is published with @allow-empty only"
    )
    assert content(tmp_path / "d") == FILES
    output = directory(tmp_path, allow_empty=True)
    assert write(output, {}) == Published(True, 0, hashlib.sha256().hexdigest())
    assert content(tmp_path / "d") == {}
    assert not write(output, {}).changed
    with pytest.raises(RefreshFailed, match="this is no JSON"):
        put(output, b"")


def test_what_is_no_object_of_contents_changes_nothing(tmp_path: Path) -> None:
    write(directory(tmp_path), FILES)
    before = everything(tmp_path)
    for wrong in ([FILES], {**FILES, "a/b": ""}, {**FILES, "c": 5}, {**FILES, "c": {"base64": "A"}}):
        refusal(directory(tmp_path), wrong)
    with pytest.raises(RefreshFailed, match="its name came before"):
        put(directory(tmp_path), b'{"a.json": "", "a.json": ""}')
    assert everything(tmp_path) == before


def make_file(path: Path) -> None:
    path.write_text("theirs")


def make_symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [make_file, make_symlink, Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["c", "..data"])
def test_a_name_in_use_by_another_file_is_an_error_and_nothing_changes(
    tmp_path: Path, make: Callable[[Path], object], name: str
) -> None:
    (tmp_path / "d").mkdir()
    if name == "c":
        write(directory(tmp_path), FILES)
    make(tmp_path / "d" / name)
    before = everything(tmp_path)
    if (name, make) == ("..data", make_symlink):
        assert write(
            directory(tmp_path), FILES
        ).changed  # replaced, and not followed: as an output that is one
        return
    assert refusal(directory(tmp_path), {**FILES, "c": ""}) == (
        f"cannot write d/: {name} is there and not ours: remove it, or use another name or directory"
    )
    assert everything(tmp_path) == before


def test_a_volume_that_fails_is_no_file_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, **_: int) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    monkeypatch.setattr(os, "readlink", fail)
    assert refusal(directory(tmp_path), FILES) == "cannot write d/: Input/output error (..data)"
    assert names(tmp_path / "d") == []


def test_files_of_others_are_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir()
    theirs = [
        "theirs",
        ".theirs",
        "..theirs",
        "..kubectl-sidecar-0",
        "..data_tmp",
        ".kubectl-sidecar-x.staged",
    ]
    for name in theirs:
        (path / name).write_text("theirs")
    (path / "folder").mkdir()
    (path / "link").symlink_to("..data/other")
    (path / "dangling").symlink_to("nowhere")
    before = everything(path)
    output = directory(tmp_path)
    for files in (FILES, {"c": ""}, FILES):
        write(output, files)
        sweep(str(tmp_path), ["d/"])
    output.remove()
    assert everything(path) == before


def test_a_directory_that_is_a_symlink_or_a_file_is_an_error(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    volume.mkdir()
    (volume / "d").symlink_to(outside)
    (volume / "f").touch()
    for name in "df":
        output = directory(volume, f"{name}/")
        said = f"cannot write {name}/: {name} is a symlink or a file, where a directory was expected"
        assert refusal(output, FILES) == said
        sweep(str(volume), [f"{name}/"])
    assert names(outside) == []


def test_nothing_is_read_or_written_through_planted_symlinks(tmp_path: Path) -> None:
    outside, path = tmp_path / "outside", tmp_path / "volume/d"
    outside.mkdir()
    path.parent.mkdir()
    for name, text in FILES.items():
        (outside / name).write_text(text)
    write(directory(tmp_path / "volume"), FILES)
    generation = path / (path / "..data").readlink()
    shutil.rmtree(generation)
    generation.symlink_to(outside)
    before = everything(outside)
    with watching(outside) as watcher:
        sweep(str(tmp_path / "volume"), ["d/"])
        assert write(directory(tmp_path / "volume"), FILES).changed
        (path / "..data").unlink()
        (path / "..data").symlink_to(outside)
        sweep(str(tmp_path / "volume"), ["d/"])
        assert write(directory(tmp_path / "volume"), FILES).changed
        for planted in ("0" * 16, "1" * 16):
            (path / f"..kubectl-sidecar-{planted}").symlink_to(outside)
        assert directory(tmp_path / "volume").remove().changed
        assert watcher.events() == []
    assert everything(outside) == before
    assert names(path) == []


def test_it_can_be_taken_away_and_come_back_and_the_directory_stays(tmp_path: Path) -> None:
    output = directory(tmp_path)
    assert output.remove() == Published(False, None, None)
    assert names(tmp_path) == []
    write(output, FILES)
    (tmp_path / "d/theirs").touch()
    before = identity(tmp_path / "d")[0]
    with watching(tmp_path / "d") as watcher:
        assert output.remove() == Published(True, None, None)
        plain = [event for event in watcher.events() if not event.startswith(READING)]
        assert plain[0] == "DELETE ..data"  # all at once
        assert output.remove() == Published(False, None, None)
        assert watcher.events() == []
    assert names(tmp_path / "d") == ["theirs"]
    assert write(output, FILES).changed
    (tmp_path / "d/theirs").unlink()
    assert content(tmp_path / "d") == FILES
    assert identity(tmp_path / "d")[0] == before


def test_the_sweep_takes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    write(directory(tmp_path), FILES)
    path, before = tmp_path / "d", everything(tmp_path)
    left = path / f"..kubectl-sidecar-{'0' * 16}"
    left.mkdir()
    (left / "half").write_text("ha")
    (path / "half").symlink_to("..data/half")
    (path / f"..kubectl-sidecar-{'1' * 16}").symlink_to(left.name)
    (path / "theirs").symlink_to("..data/half")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / left.name).mkdir()
    (tmp_path / "e/..data").symlink_to("..elsewhere")
    (tmp_path / left.name).mkdir()
    sweep(str(tmp_path), ["d", "d/", "e/", "missing/"])
    (tmp_path / left.name).rmdir()
    (path / "theirs").unlink()
    assert {each: of for each, of in everything(tmp_path).items() if each in before} == before | {
        str(path): everything(tmp_path)[str(path)]
    }
    assert content(path) == FILES
    assert names(tmp_path / "e") == ["..data", left.name]


def test_before_the_first_publication_all_that_is_left_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "d"
    (path / f"..kubectl-sidecar-{'0' * 16}").mkdir(parents=True)
    (path / "half").symlink_to("..data/half")
    sweep(str(tmp_path), ["d/"])
    assert names(path) == []


def killed(*words: object) -> list[int]:
    program = [sys.executable, "-m", "tests.unit.publish.killed", *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [int(number) for number in done.stdout.split()]


@pytest.mark.slow
def test_a_kill_before_any_of_its_calls_leaves_a_whole_generation_and_the_sweep_no_litter(
    tmp_path: Path,
) -> None:
    steps = killed("at_every_step", tmp_path)
    assert len(steps) == 4
    assert min(steps) > 10


@pytest.mark.slow
def test_200_kills_at_any_time_leave_a_whole_generation_and_the_sweep_no_litter(volume: Path) -> None:
    assert killed("at_any_time", volume, 200, 12) == [200]


def test_two_kubectl_sidecars_do_not_work_in_it_at_once(tmp_path: Path) -> None:
    output = directory(tmp_path)
    write(output, FILES)
    left = tmp_path / "d" / f"..kubectl-sidecar-{'0' * 16}"
    left.mkdir()
    other = os.open(tmp_path / "d", os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        said = "cannot write d/: another kubectl-sidecar is at work in it just now"
        assert refusal(output, {"c": ""}) == said
        sweep(str(tmp_path), ["d/"])
        assert left.exists()
        assert not write(output, FILES).changed
    finally:
        os.close(other)
    assert write(output, {"c": ""}).changed
    assert content(tmp_path / "d") == {"c": ""}


def test_the_lock_is_given_back_though_a_stage_that_is_being_started_has_a_copy(tmp_path: Path) -> None:
    said = isolated(
        "true",
        """
        import fcntl
        copies, flock = [], fcntl.flock

        def copy_first(fd, flags):
            copies.append(os.dup(fd if isinstance(fd, int) else fd.fileno()))
            flock(fd, flags)

        fcntl.flock = copy_first
        output = OutputDirectory(str(root), "d/", 0o644)
        print([put(output, b'{"a": "%d"}' % number).changed for number in range(3)], len(copies) > 3)
        """,
        tmp_path,
    )
    assert said == "[True, True, True] True\n"


@pytest.mark.parametrize("code", ["ENOLCK", pytest.param("EBADF", marks=pytest.mark.slow)])
def test_without_locks_syncs_and_modes_everything_else_works(tmp_path: Path, code: str) -> None:
    said = isolated(
        "true",
        f"""
        refuse(flock=errno.{code})
        refuse(fsync=errno.EINVAL)
        refuse(fchmod=errno.EPERM)
        os.umask(0o022)
        sweep(str(root), ["d/"])
        output = OutputDirectory(str(root), "d/", 0o600)
        texts = b'{{"a": "1", "b": ""}}', b'{{"a": "2"}}', b'{{"a": "2"}}'
        print([put(output, text).changed for text in texts])
        print((root / "d/a").read_text(), oct(mode(root / "d/a")), len(names(root / "d")))
        """,
        tmp_path,
    )
    assert said == "[True, True, False]\n2 0o600 3\n"


def test_a_disk_that_fails_when_it_is_synced_changes_nothing(tmp_path: Path) -> None:
    write(directory(tmp_path), FILES)
    before = content(tmp_path / "d"), generations(tmp_path / "d")
    said = isolated(
        "true",
        """
        refuse(fsync=errno.EIO)
        try:
            put(OutputDirectory(str(root), "d/", 0o644), b'{"a.json": "new", "c": "new"}')
        except RefreshFailed as error:
            print(error)
        """,
        tmp_path,
    )
    assert said == "cannot write d/: Input/output error\n"
    assert (content(tmp_path / "d"), generations(tmp_path / "d")) == before


# As much as can be had of a volume, and then one step less, down to nothing: each step fails at another call.
FULL = """
    def everything():
        return {path: (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in sorted(root.rglob("*"))}

    output = OutputDirectory(str(root), "d/", 0o644)
    put(output, b'{"a": "good", "b": "good"}')
    (root / "ballast").mkdir()
    ballast, said = [], set()
    try:
        for number in range(1000):
            ballast.append(root / "ballast" / str(number))
            ballast[-1].FILL
    except OSError:
        ballast[-1].unlink(missing_ok=True)
        ballast.pop()
    new = b'{"a": "%s", "c": "%s", "d": "%s"}' % (3 * (b"x" * SIZE,))
    for attempt in range(1000):
        before = everything()
        try:
            print(put(output, new).changed)
            break
        except RefreshFailed as error:
            said.add(str(error))
            touched = [str(path) for path, of in everything().items() if before.get(path) != of]
            assert set(touched) <= {str(root / "d")}, touched
            assert everything().keys() == before.keys()
        ballast.pop().unlink()
    print(attempt > 3, said, (root / "d/c").read_text() == "x" * SIZE, len(names(root / "d")))
"""
NO_SPACE = "cannot write d/: no space left in the volume: it must hold the old and the new content at once"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "fill", "size"),
    [("size=96k", "write_bytes(bytes(4096))", 5000), ("nr_inodes=24", "touch()", 1)],
)
def test_a_full_volume_keeps_the_generation_and_recovers(
    tmp_path: Path, options: str, fill: str, size: int
) -> None:
    script = FULL.replace("FILL", fill).replace("SIZE", str(size))
    said = isolated(f'mount -t tmpfs -o {options} tmpfs "$DIR"', script, tmp_path)
    assert said == f"True\nTrue {{{NO_SPACE!r}}} True 5\n"


@pytest.mark.slow
def test_a_volume_that_is_mounted_read_only_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    write(directory(tmp_path), FILES)
    said = isolated(
        'mount --bind "$DIR" "$DIR"; mount -o remount,bind,ro "$DIR"',
        """
        sweep(str(root), ["d/"])
        for text in (b'{"a.json": "{}\\\\n", "b": "text"}', b'{"b": ""}'):
            try:
                print(put(OutputDirectory(str(root), "d/", 0o644), text).changed)
            except RefreshFailed as error:
                print(error)
        """,
        tmp_path,
    )
    assert said == (
        "False\n"
        "cannot write d/: the volume is mounted read-only: mount it without readOnly in this container\n"
    )


def test_a_file_that_cannot_be_read_back_is_published_all_the_same(tmp_path: Path) -> None:
    write(directory(tmp_path, mode=0o200), FILES)
    assert stat.S_IMODE((tmp_path / "d/b").stat().st_mode) == 0o200
