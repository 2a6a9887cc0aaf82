"""Programs and jq programs are checked before anything runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_sidecar.parse.programs import Probe, check_programs
from tests.unit.parse.loading import load

JQ_SAID = "syntax error, unexpected end of file at <top-level>, line 1, column 4:; .a |"


def answering(status: int, stderr: str = "") -> tuple[Probe, list[tuple[str, ...]]]:
    asked: list[tuple[str, ...]] = []

    def probe(argv: tuple[str, ...]) -> tuple[int, str]:
        asked.append(argv)
        return status, stderr

    return probe, asked


def program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def texts(line: str, path: str | None, probe: Probe | None = None) -> list[str]:
    stages = [stage for task in load(line) for stage in task.stages]
    return [str(problem) for problem in check_programs(stages, path, probe or answering(0)[0])]


def test_programs_on_path_are_found_in_any_of_its_directories(tmp_path: Path) -> None:
    program(tmp_path / "a" / "p")
    program(tmp_path / "b" / "q")
    assert not texts("p | q > x", f"{tmp_path}/a:/nowhere:{tmp_path}/b")


def test_every_missing_program_is_named_at_its_place(tmp_path: Path) -> None:
    program(tmp_path / "p")
    first, second = texts("p | jqq . |\n cd > x", str(tmp_path))
    message = "`jqq`: no such program on PATH; install it in the image, or write its path"
    assert first == f"tasks:1:5: {message}\n    p | jqq . |\n        ^"
    message = "`cd` is built into shells and no program; use bash -euo pipefail -c 'cd …' as a stage"
    assert second == f"tasks:2:2: {message}\n     cd > x\n     ^"


def test_a_path_must_be_an_executable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "p", 0o644)
    (tmp_path / "d").mkdir()
    assert not texts(f"{program(tmp_path / 'q')} > x", None)
    monkeypatch.chdir(tmp_path)
    assert not texts("./q > x", None)
    for path in ("./p", "./d", "./none"):
        assert texts(f"{path} > x", None) == [
            f"tasks:1:1: `{path}` is no executable file\n    {path} > x\n    ^"
        ]


def test_a_program_begins_like_one(tmp_path: Path) -> None:
    program(tmp_path / "p").write_text("echo without a first line that says by whom\n")
    message = "`p` is no program: it begins neither with #! nor as an ELF file"
    assert texts("p > x", str(tmp_path)) == [f"tasks:1:1: {message}\n    p > x\n    ^"]
    (tmp_path / "q").symlink_to(sys.executable)
    assert not texts("q > x", str(tmp_path))


def test_what_jq_says_is_hidden_only_where_a_variable_was_expanded(tmp_path: Path) -> None:
    program(tmp_path / "jq")
    probe, _ = answering(3, "jq: error: bad\n")
    for line in ("jq '.a as $x | $y' > x", "jq \\$y > x", 'jq "\\$y" > x'):
        (text,) = texts(line, str(tmp_path), probe)
        assert text.startswith("tasks:1:1: jq refuses this: bad\n")


def test_what_cannot_be_executed_on_path_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "a" / "p", 0o644)
    (tmp_path / "b" / "p").mkdir(parents=True)
    assert len(texts("p > x", f"{tmp_path}/a:{tmp_path}/b")) == 1
    program(tmp_path / "c" / "p")
    assert not texts("p > x", f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c")


def test_an_empty_directory_of_path_is_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    assert not texts("p > x", "/nowhere:")
    assert texts("p > x", "/nowhere")


def test_without_path_the_default_of_the_system_counts() -> None:
    assert not texts("sh > x", None)


def test_the_value_of_a_variable_is_in_no_message(tmp_path: Path) -> None:
    program(tmp_path / "jq")
    probe, _ = answering(3, "jq: error: hunter2/0 is not defined\njq: 1 compile error")
    found = texts('jq ".$SECRET" | $SECRET | /$SECRET/b > x', str(tmp_path), probe)
    assert [text.split("\n")[0] for text in found] == [
        "tasks:1:1: jq refuses this: its words hold values of the environment, so what it said is not shown",
        "tasks:1:17: this program: no such program on PATH; install it in the image, or write its path",
        "tasks:1:27: this program is no executable file",
    ]


def test_equal_stages_of_jq_are_asked_once_and_all_reported(tmp_path: Path) -> None:
    program(tmp_path / "jq")
    probe, asked = answering(3, "jq: error: bad\n")
    found = texts("jq .a | jq .a | jq .b > x", str(tmp_path), probe)
    assert asked == [("jq", ".a"), ("jq", ".b")]
    assert [text.split("\n")[0] for text in found] == [
        f"tasks:1:{column}: jq refuses this: bad" for column in (1, 9, 17)
    ]


def test_other_programs_are_not_run(tmp_path: Path) -> None:
    program(tmp_path / "p")
    probe, asked = answering(3)
    assert not texts("p jq | p > x", str(tmp_path), probe)
    assert not asked


@pytest.mark.parametrize("status", [0, 1, 4, 5, -9, 127])
def test_what_jq_thinks_of_its_input_is_not_load_times_business(tmp_path: Path, status: int) -> None:
    program(tmp_path / "jq")
    assert not texts("jq .a > x", str(tmp_path), answering(status, "jq: error: no")[0])


def test_what_jq_says_is_one_short_safe_line(tmp_path: Path) -> None:
    program(tmp_path / "jq")
    probe, _ = answering(3, "jq: error: a \x1b[31m\n   b\n   ^^\njq: 1 compile error\n" + "c" * 1000)
    (text,) = texts("jq .a > x", str(tmp_path), probe)
    assert text.split("\n")[0] == "tasks:1:1: jq refuses this: a ␛[31m; b; " + "c" * (
        300 - len("a ␛[31m; b; ")
    )


REAL = [
    ("jq . > x", None),
    ("jq '.a |' > x", "syntax error, unexpected end of file at <top-level>, line 1, column 4:; .a |"),
    ("jq foo > x", "foo/0 is not defined at <top-level>, line 1, column 1:; foo"),
    ("jq -f nowhere.jq > x", "Could not open nowhere.jq: No such file or directory"),
    ("jq . nowhere.json > x", None),
    ("jq --slurpfile a nowhere.json . > x", None),
    ("jq -n 'error(\"x\")' > x", None),
    ("jq -e . > x", None),
]


@pytest.mark.parametrize(("line", "said"), REAL)
def test_real_jq_is_understood(line: str, said: str | None, tools: Path) -> None:
    def probe(argv: tuple[str, ...]) -> tuple[int, str]:
        done = subprocess.run(
            [tools / "jq", *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr

    found = texts(line, str(tools), probe)
    assert [text.split("\n")[0] for text in found] == (
        [f"tasks:1:1: jq refuses this: {said}"] if said else []
    )
