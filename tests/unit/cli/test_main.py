"""The command line: its help, its exit statuses, and what it says when its words are wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kubectl_sidecar import __version__
from kubectl_sidecar.cli import flags, status
from kubectl_sidecar.cli.main import COMMANDS, main
from kubectl_sidecar.errors import SidecarError
from tests.harness.waiting import wait_until
from tests.unit.cli import documents
from tests.unit.cli.program import ENVIRON, WORDS, has_taken, started

TOP = "usage: kubectl-sidecar [-h] [--version] COMMAND ...\n"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
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
        ("watch", f": error: argument COMMAND: invalid choice: 'watch' (choose from {', '.join(COMMANDS)})"),
        ("--once run", ": error: unrecognized arguments: --once"),
        ("run --evry 5s", " run: error: unrecognized arguments: --evry"),
        ("run --time 5s x", " run: error: unrecognized arguments: --time"),
        ("run --timeout", " run: error: argument --timeout: expected one argument"),
        ("run --timeout 5", " run: error: argument --timeout: `5` has no unit; write 5s"),
        ("check --output-dir /data", " check: error: unrecognized arguments: --output-dir"),
        ("status -o xml", " status: error: argument -o: invalid choice: 'xml' (choose from table, json)"),
        ("version now", " version: error: unrecognized arguments: now"),
    ],
)
def test_bad_words_are_refused(words: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    usage, _, last = unquoted(refused(words.split(), capsys)).rstrip("\n").rpartition("\n")
    assert usage.startswith("usage: kubectl-sidecar")
    assert last == f"kubectl-sidecar{error}"


def test_the_command_is_the_first_word(capsys: pytest.CaptureFixture[str]) -> None:
    """How argparse says it depends on the version of Python."""
    assert refused(["--", "run"], capsys).startswith(TOP)


def test_bad_variables_are_told_in_one_go(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL_SIDECAR_EVRY", "5s")
    monkeypatch.setenv("KUBECTL_SIDECAR_MAX_AGE", "5")
    for command in ("run", "check"):
        assert refused([command, "cat x > y"], capsys) == (
            "KUBECTL_SIDECAR_EVRY: there is no flag of that name; did you mean KUBECTL_SIDECAR_EVERY?\n"
            "KUBECTL_SIDECAR_MAX_AGE: `5` has no unit; write 5s\n"
        )


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kubectl-sidecar {__version__}\n"


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_help_fits_a_terminal(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: kubectl-sidecar {words}")
    assert max(map(len, shown.splitlines())) <= 80


def test_the_help_of_run_names_every_flag_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for flag in (*flags.TASK_FLAGS, *flags.OUTPUT_FLAGS, *flags.PROCESS_FLAGS):
        (line,) = filter(re.compile(rf" +(-f( FILE)?, )?--{flag.name} ").match, shown)
        has_default = flag.metavar and flag.name not in ("file", "status-file")
        assert line.endswith("]") == bool(has_default)


def test_help_is_to_be_had_with_a_bad_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL_SIDECAR_EVERY", "5")
    assert main(["run", "--help"]) == 0
    assert capsys.readouterr().err == ""


def test_an_expected_failure_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_words: Sequence[str], _environ: Mapping[str, str]) -> int:
        raise SidecarError("no luck")

    monkeypatch.setattr(status, "main", fail)
    assert main(["status"]) == 1
    assert capsys.readouterr().err == "kubectl-sidecar: no luck\n"


def test_a_bug_has_its_traceback_and_its_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_words: Sequence[str], _environ: Mapping[str, str]) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(status, "main", fail)
    assert main(["status"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("\nValueError: a bug\n")


@pytest.mark.parametrize("words", ["run --help", "check true>a", "version", "--help"])
def test_a_reader_of_stdout_that_has_gone_is_a_failure_without_a_word(words: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*WORDS, *words.split()], stdout=write, stderr=subprocess.PIPE, env=ENVIRON, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_reader_that_has_gone_is_no_bug_whatever_the_size(tmp_path: Path) -> None:
    document = tmp_path / "status.json"
    document.write_text(documents.text(reloadError="x" * 100_000))
    read, write = os.pipe()
    os.close(read)
    words = [*WORDS, "status", "-o", "json", f"--status-file={document}"]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, env=ENVIRON, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_without_any_stdout_nothing_is_wrong() -> None:
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *WORDS, "version"]
    done = subprocess.run(words, stderr=subprocess.PIPE, env=ENVIRON, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(("command", "expected"), [("run", 0), ("check", 128 + signal.SIGTERM)])
def test_what_startup_waits_for_holds_up_no_end(command: str, expected: int) -> None:
    read, write = os.pipe()
    with started(command, "-f", "-", stdin=read) as process:
        wait_until(lambda: has_taken(process, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == expected
    os.close(read)
    os.close(write)


def test_signals_are_handled_before_the_rest_of_the_program_is_loaded(tmp_path: Path) -> None:
    """The kernel drops what PID 1 does not handle."""
    script = """
import signal, sys
from kubectl_sidecar.cli.main import COMMANDS, main

heavy, seen = {"argparse", "sh", "tenacity"}, set()

class Watch:
    def find_spec(name, path, target=None):
        if name in heavy:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert {15, 2, 1, 10} <= blocked, (name, blocked)
            seen.add(name)

assert not heavy & sys.modules.keys()
sys.meta_path.insert(0, Watch)
assert main(["run", "--once", "echo 1 > a"]) == 0
assert seen == heavy, seen
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=tmp_path, stderr=subprocess.PIPE, env=ENVIRON, text=True, check=False)
    assert done.returncode == 0, done.stderr
