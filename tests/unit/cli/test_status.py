"""The status command shows the document to people, whole, and to programs as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubectl_sidecar.cli.main import main
from kubectl_sidecar.cli.status import lines, short
from kubectl_sidecar.status.document import Document
from tests.unit.cli import documents
from tests.unit.cli.program import ENVIRON, WORDS

TABLE = """\
OUTPUT            STATE                AGE   CHANGED  FAILURES  NEXT  ERROR
web.json          ok                   12s   3d2h     0         18s   -
node-status.json  failing (optional)   1h1m  -        4         -     kubectl exited with 1: no route to host
new               starting (optional)  -     -        0         -     -
"""


def shown(text: str) -> str:
    """The table at the moment when the document was written."""
    document = Document("/run/status.json", text)
    document.read_at = document.content["sinceBoot"]
    return "".join(f"{line}\n" for line in lines(document))


def test_the_table_is_for_people() -> None:
    assert shown(documents.text()) == TABLE


def test_a_hook_that_fails_is_shown_while_its_task_is_fine() -> None:
    web, node, _ = json.loads(documents.text())["tasks"]
    hook = {"state": "failing", "lastError": "POST http://h/: answered with 503"}
    fine, failing, healed = (
        {**web, "hook": hook}, {**node, "hook": hook}, {**web, "hook": {"state": "ok", "lastError": None}}
    )  # fmt: skip
    table = shown(documents.text(tasks=[fine, failing, healed])).splitlines()
    assert [line.split("  ")[-1].strip() for line in table] == [
        "ERROR",
        "on-change: POST http://h/: answered with 503",
        "kubectl exited with 1: no route to host",
        "-",
    ]
    assert table[1].split()[1] == "ok"


def test_setting_the_clock_makes_nothing_older() -> None:
    assert shown(documents.text(clock=3600)) == TABLE


def test_what_is_wrong_with_the_whole_of_it_comes_first() -> None:
    gone = shown(documents.text(pid=2**22 + 1))
    assert gone == "not alive: process 4194305, which wrote /run/status.json, has ended\n" + TABLE


def test_a_refused_reload_is_shown_with_its_places() -> None:
    error = "tasks:1:5: unknown directive @evry\n    @evry 5m cat a > b\n    ^"
    assert shown(documents.text(reloadError=error)) == (
        f"{TABLE}the last reload was refused, the tasks above go on:\n{error}\n"
    )


def test_a_document_that_an_app_wrote_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in shown(documents.text(reloadError="\x1b[2J"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.4, "0s"),
        (59.6, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (3661, "1h1m"),
        (3605, "1h"),
        (90061, "1d1h"),
        (8640000, "100d"),
    ],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert short(seconds) == text


@pytest.fixture
def status_file(tmp_path: Path) -> Path:
    path = tmp_path / "status.json"
    path.write_text(documents.text())
    return path


def test_the_command_prints_the_table(status_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", f"--status-file={status_file}"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["OUTPUT", "STATE"],
        ["web.json", "ok"],
        ["node-status.json", "failing"],
        ["new", "starting"],
    ]


def test_json_is_the_document_as_it_is(status_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-o", "json", "--status-file", str(status_file)]) == 0
    assert capsys.readouterr().out == status_file.read_text()


def test_no_document_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "status.json"
    assert main(["status", f"--status-file={path}"]) == 1
    assert capsys.readouterr().err == (
        f"kubectl-sidecar: there is no status document: looked for {path};"
        " is `kubectl-sidecar run` running in this container, as this user?\n"
    )


def test_watch_wants_a_terminal(status_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch", f"--status-file={status_file}"]) == 2
    assert capsys.readouterr().err.endswith(
        "error: --watch: stdout is no terminal; use kubectl exec -it, or leave --watch out\n"
    )


@contextmanager
def watching(status_file: Path, lines: int, columns: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `status --watch` at a terminal of this size; yields it, and our end of the terminal."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (lines, columns))
    words = [*WORDS, "status", "--watch", f"--status-file={status_file}"]
    environ = {name: text for name, text in ENVIRON.items() if name != "COLUMNS"}
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
    os.close(ours)


def read_until(terminal: int, end: str) -> str:
    shown = ""
    while not shown.endswith(end):
        shown += os.read(terminal, 4096).decode()
    return shown


@pytest.mark.slow
def test_watch_refreshes_in_place_until_it_is_told_to_stop(status_file: Path) -> None:
    with watching(status_file, 20, 60) as (process, terminal):
        first = read_until(terminal, "\x1b[K\r\n\x1b[J")
        assert first.startswith("\x1b[HOUTPUT            STATE                AGE  ")
        rows = first.replace("\x1b[H", "").replace("\x1b[K", "").split("\r\n")
        assert max(map(len, rows)) == 60
        status_file.unlink()
        second = read_until(terminal, "\x1b[J")
        assert second.startswith(f"\x1b[Hthere is no status document: looked for {status_file}"[:60])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_watch_can_stand_a_terminal_that_does_not_know_its_size(status_file: Path) -> None:
    """As the one of kubectl exec at first."""
    with watching(status_file, 0, 0) as (process, terminal):
        assert read_until(terminal, "\x1b[J").startswith("\x1b[HOUTPUT            STATE ")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
