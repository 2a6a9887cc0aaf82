"""The command line: its help, its exit statuses, and what it says when its words are wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_sidecar import __version__
from kubectl_sidecar.cli import main
from kubectl_sidecar.flags import RUN_FLAGS

TOP = "usage: kubectl-sidecar [-h] [--version] COMMAND ...\n"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_status:
        main(words)
    assert exit_status.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_no_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused([], capsys) == (
        TOP + "kubectl-sidecar: error: the following arguments are required: COMMAND\n"
    )


def unquoted(said: str) -> str:
    """Python 3.11 quotes the choices."""
    head, _, choices = said.partition("(choose from")
    return f"{head}(choose from{choices.replace(chr(39), '')}" if choices else said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("watch", (": error: argument COMMAND: invalid choice: 'watch'"
         " (choose from run, check, status, health, version)")),
        ("run --evry 5s", ": error: unrecognized arguments: --evry"),
        ("run --time 5s x", ": error: unrecognized arguments: --time"),
        ("run --timeout", " run: error: argument --timeout: expected one argument"),
        ("status -o xml", " status: error: argument -o: invalid choice: 'xml' (choose from table, json)"),
        ("health --startup --ready",
         " health: error: argument --ready: not allowed with argument --startup"),
        ("health now", ": error: unrecognized arguments: now"),
    ],
)  # fmt: skip
def test_bad_words_are_refused(words: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    usage, _, last = unquoted(refused(words.split(), capsys)).rstrip("\n").rpartition("\n")
    assert usage.startswith("usage: kubectl-sidecar")
    assert last == f"kubectl-sidecar{error}"


def test_bad_values_and_bad_tasks_are_told_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    words = [
        "run",
        "--every=5",
        "--max-failures=0",
        f"--output-dir={missing}",
        "-f",
        f"{missing}/tasks",
        "cat x",
    ]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "--every: `5` has no unit; write 5s\n"
        "--max-failures: `0` is not a whole number above 0, or -1 for ever\n"
        f"--output-dir: {missing} is not a directory; make it, or mount a volume there\n"
        f"{missing}/tasks: cannot be read: No such file or directory\n"
        "LINE 1:1:6: expected > PATH after the last stage\n    cat x\n         ^\n"
    )


def test_a_bad_variable_is_told_with_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL_SIDECAR_EVRY", "5s")
    monkeypatch.setenv("KUBECTL_SIDECAR_MAX_AGE", "5")
    monkeypatch.setenv("KUBECTL_SIDECAR_GRACE", "-1s")
    assert main(["run", "cat x > y"]) == 2
    assert capsys.readouterr().err == (
        "KUBECTL_SIDECAR_EVRY: there is no flag of that name; did you mean KUBECTL_SIDECAR_EVERY?\n"
        "KUBECTL_SIDECAR_GRACE: `-1s` is negative; write a duration such as 30s\n"
        "KUBECTL_SIDECAR_MAX_AGE: `5` has no unit; write 5s\n"
    )


def test_a_status_file_cannot_be_an_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["run", f"--output-dir={tmp_path}", f"--status-file={tmp_path}/x/../a", "cat x > a"]
    words += ["--once", "--deadline=1ms"]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "LINE 1:1:9: this is the --status-file as well; give one of them another path\n"
        "    cat x > a\n            ^\n"
    )


def test_an_absolute_output_may_not_be_a_relative_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--output-dir", str(tmp_path), "cat > a", f"cat > {tmp_path}/a"]) == 2
    assert capsys.readouterr().err == (
        "LINE 2:1:7: this is the output of LINE 1:1:7 as well; give it another path\n"
        f"    cat > {tmp_path}/a\n"
        "          ^\n"
    )


def test_a_bad_max_age_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--ready", "--max-age=5"]) == 2
    assert capsys.readouterr().err == "--max-age: `5` has no unit; write 5s\n"


def test_check_says_what_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    line = "@optional @watch @mode 0600 kubectl get pod secret-name -o json | jq .status > a//b"
    assert main(["check", "--timeout=1m30s", line]) == 0
    assert capsys.readouterr().out == (
        "LINE 1:1:29: a/b: kubectl | jq;"
        " watch (each object is fed to the rest of the line; needs the verbs get, list and watch for it),"
        " every 10m, timeout 1m30s, mode 0600, on-missing keep, optional\n"
    )


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["--version"])
    assert exit_status.value.code == 0
    assert capsys.readouterr().out == f"kubectl-sidecar {__version__}\n"


@pytest.mark.parametrize("words", ["", "run", "check", "status", "health", "version"])
def test_help_fits_a_terminal(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit) as exit_status:
        main([*words.split(), "--help"])
    assert exit_status.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: kubectl-sidecar {words}")
    assert max(map(len, shown.splitlines())) <= 110


def test_the_help_of_run_names_every_flag_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out.splitlines()
    for flag in RUN_FLAGS:
        name = re.compile(rf" +(-f( FILE)?, )?{flag.option} ")
        (line,) = filter(name.match, shown)
        if flag.default and flag.metavar:
            assert line.endswith(f" [{flag.default}]")


def test_paths_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "tasks").write_text("cat /dev/null /proc/self/comm > name\n")
    words = [
        "run",
        "--once",
        "--output-dir=out",
        "--status-file=status.json",
        "-f",
        "tasks",
        "--log-format=json",
    ]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    program = [sys.executable, "-m", "kubectl_sidecar", *words]
    done = subprocess.run(program, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, events[-1]["task"], events[-1]["message"]) == (
        0,
        "name",
        "first success: 4 bytes",
    )
    assert (tmp_path / "out" / "name").read_text() == "cat\n"
    assert json.loads((tmp_path / "status.json").read_text())["tasks"][0]["state"] == "ok"
