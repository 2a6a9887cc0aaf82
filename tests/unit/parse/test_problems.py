"""Every problem of every source is reported in one go, each at its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.parse.load import DEFAULT_FILE, Loader
from kubectl_sidecar.task import Settings, Task

PROGRAMS = ("p", "q", "kubectl", "jq")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    for name in PROGRAMS:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin")}


def jq_says_no(argv: tuple[str, ...]) -> tuple[int, str]:
    return (3, "jq: error: syntax error\n") if ".a b" in argv else (0, "")


def load(environ: dict[str, str], settings: Settings) -> tuple[Task, ...]:
    return Loader(settings, environ, jq_says_no).load()


def problems(environ: dict[str, str], *lines: str, files: Sequence[Path] = (), **flags: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load(environ, Settings(lines=lines, files=tuple(map(str, files)), **flags))  # type: ignore[arg-type]
    return [f"{problem.where}: {problem.text}" for problem in caught.value.problems]


def test_what_is_wrong_with_one_line_hides_nothing_of_the_others(environ: dict[str, str]) -> None:
    found = problems(
        environ,
        "kubectl get pod ; nosuchprogram > a",
        "kubectl get pod p | nosuchprogram > b",
        'kubectl get pod p -o json | jq ".a b" > c',
        "p >> d | nosuchprogram",
        "@watch p | jq '.a b' | q $UNSET > ../e",
    )
    assert [text.split("; ")[0] for text in found] == [
        "LINE 1:1:17: `;` joins commands, but a task is one pipeline",
        "LINE 1:1:19: `nosuchprogram`: no such program on PATH",
        "LINE 2:1:21: `nosuchprogram`: no such program on PATH",
        "LINE 3:1:29: jq refuses this: syntax error",
        "LINE 4:1:3: `>>`: an output is always replaced as a whole, without stderr",
        "LINE 4:1:8: expected the end of the line after the path, but `|` came",
        "LINE 4:1:10: `nosuchprogram`: no such program on PATH",
        "LINE 5:1:8: @watch: only kubectl get can be watched, and this is `p`",
        "LINE 5:1:12: jq refuses this: syntax error",
        "LINE 5:1:26: $UNSET is not set",
        "LINE 5:1:35: the output's path leaves the output directory",
    ]


def test_problems_come_in_the_order_of_sources_and_places(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "b").write_text("p > same\np $B > ../a $A")
    (tmp_path / "a.yaml").write_text("every: 5\ntasks:\n- p\n- run: q; p\n  output: a/.\n")
    files = [tmp_path / "b", tmp_path / "a.yaml", tmp_path / "none"]
    found = problems(environ, "p > same\nq", "", files=files)
    assert [text.removeprefix(f"{tmp_path}/").rpartition(": ")[0].split(": ")[0] for text in found] == [
        "b:2:3", "b:2:13", "b:2:13", "a.yaml:1:8", "a.yaml:3", "a.yaml:4", "a.yaml:4",
        "none", "LINE 1:1:5", "LINE 1:2:2", "LINE 2",
    ]  # fmt: skip


def test_a_source_without_tasks_is_refused(environ: dict[str, str]) -> None:
    assert problems(environ, "", "# none\n\n") == [
        "LINE 1: expected at least one task, but there is none",
        "LINE 2: expected at least one task, but there is none",
    ]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("a/b", "a//./b", True),
        ("a", "/data/a", True),
        ("/data/../data/a", "a", True),
        ("a", "a/b/c", False),
        ("a/b", "a", False),
        ("x/y", "/data/x", False),
        ("a", "a/", True),
        ("a/", "/data/a/", True),
        ("a/", "a/b", False),
        ("a/..data/b", "a/", False),
        ("a/b/", "a/", False),
    ],
)
def test_no_two_tasks_can_need_one_path(
    environ: dict[str, str], first: str, second: str, is_same: bool
) -> None:
    same = "this is the output of LINE 1:1:5 as well; give it another path"
    nested = "one of this output and that of LINE 1:1:5 is a directory of the other; move one"
    assert problems(environ, f"p > {first}", "p > a-b", f"q > {second}", output_dir="/data") == [
        f"LINE 3:1:5: {same if is_same else nested}"
    ]


def test_every_output_in_a_directory_that_is_an_output_is_named(environ: dict[str, str]) -> None:
    found = problems(environ, "p > a/b", "p > a/c/d", "p > a")
    assert [text.split(":")[0] for text in found] == ["LINE 3", "LINE 3"]


def test_nothing_else_can_be_written_where_the_output_directory_is_an_output(environ: dict[str, str]) -> None:
    nested = "one of this output and that of {} is a directory of the other; move one"
    (found,) = problems(environ, "p > a", "p > ./", output_dir="/data")
    assert found == f"LINE 2:1:5: {nested.format('LINE 1:1:5')}"
    (found,) = problems(environ, "p > a/", output_dir="/data", status_file="/data/a/status.json")
    assert found == f"LINE 1:1:5: {nested.format('--status-file')}"


def test_outputs_of_refused_lines_clash_as_well(environ: dict[str, str]) -> None:
    found = problems(environ, "p $NO > x", "q | $NO > x")
    assert [text.split(" ")[2] for text in found] == ["$NO", "$NO", "this"] or len(found) == 3
    assert found[2] == "LINE 2:1:11: this is the output of LINE 1:1:9 as well; give it another path"


@pytest.mark.parametrize("status_file", ["/data/s/x.json", "/data/s"])
def test_no_task_can_have_the_status_file(environ: dict[str, str], status_file: str) -> None:
    (text,) = problems(environ, "p > s/x.json", output_dir="/data", status_file=status_file)
    assert text.startswith("LINE 1:1:5: ")
    assert "--status-file" in text
    assert load(environ, Settings(lines=("p > s/x.json",), output_dir="/other", status_file=status_file))


def test_with_no_tasks_given_the_default_file_is_read(environ: dict[str, str]) -> None:
    assert problems(environ) == [f"{DEFAULT_FILE}: cannot be read: No such file or directory"]


def test_windows_line_ends_are_one_problem_and_hide_no_other(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"p a > x\r\nq \\\r\n $UNSET > y\r\n")
    ends, unset = problems(environ, files=[tmp_path / "tasks"])
    assert ends == f"{tmp_path}/tasks: the lines end in CR LF; save with LF line ends"
    assert unset.startswith(f"{tmp_path}/tasks:3:2: $UNSET is not set")


def test_what_cannot_be_read_is_a_problem_of_its_source(environ: dict[str, str], tmp_path: Path) -> None:
    assert problems(environ, "p > x", files=[tmp_path]) == [f"{tmp_path}: cannot be read: Is a directory"]
    assert problems(environ, files=[tmp_path / "a\0"])[0].endswith(": cannot be read: embedded null byte")


def test_bytes_that_are_not_utf_8_are_pointed_at(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(
        "p ü > x\nq ü\xff > y\n".encode("latin-1").replace(b"\xfc", "ü".encode())
    )
    (text,) = problems(environ, files=[tmp_path / "tasks"])
    assert text.startswith(f"{tmp_path}/tasks:2:3: `ü\ufffd` holds a NUL, a byte that is not UTF-8")


def test_stdin_is_read_once() -> None:
    program = (
        "from kubectl_sidecar.parse.load import Loader\n"
        "from kubectl_sidecar.task import Settings\n"
        "settings = Settings(files=('-',), lines=('sh > l',))\n"
        "loader = Loader(settings, {'PATH': '/bin:/usr/bin'}, lambda _: (0, ''))\n"
        "for _ in range(2): print([task.output for task in loader.load()])\n"
        "print(loader.look(), str(loader.load()[0].where))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="sh > a\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stdout == "['a', 'l']\n['a', 'l']\nNone <stdin>:1:1\n"


def test_a_program_can_end_while_a_thread_waits_for_stdin() -> None:
    program = (
        "import array, fcntl, termios, threading\n"
        "from kubectl_sidecar.parse.load import Loader\n"
        "from kubectl_sidecar.task import Settings\n"
        "loader = Loader(Settings(files=('-',)), {}, lambda _: (0, ''))\n"
        "threading.Thread(target=loader.load, daemon=True).start()\n"
        "waiting = array.array('i', [1])\n"
        "while waiting[0]: fcntl.ioctl(0, termios.FIONREAD, waiting)\n"
    )
    read, write = os.pipe()
    try:
        os.write(write, b"p > x\n")
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=read,
            capture_output=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        )
    finally:
        os.close(read)
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_variable_that_is_not_set_is_no_problem_where_that_is_allowed(environ: dict[str, str]) -> None:
    line = '@every $A @watch kubectl get pod $B -o json | jq ".a b $C" | $D > $E.json'
    (task,) = load(environ, Settings(lines=(line,), allow_unset=True))
    assert (task.output, task.stages[0].argv[3]) == ("$E.json", "$B")
    assert task.watch
    assert task.watch.feeds
    assert problems(environ, "@watch p $B > x", allow_unset=True)  # type: ignore[arg-type]


def test_half_a_file_is_never_an_incomplete_pipeline(environ: dict[str, str]) -> None:
    """Whatever is cut off a line, it is refused or has all of its stages."""
    line = "p 'a b' \"c\" | q d\\ e 2>/dev/null | p > x/y"
    for end in range(len(line)):
        try:
            tasks = load(environ, Settings(lines=(line[:end],)))
        except InvalidInput:
            continue
        assert [len(task.stages) for task in tasks] == [3]
