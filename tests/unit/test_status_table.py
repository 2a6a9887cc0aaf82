"""The status command shows the document to people, whole, and to programs as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from kubectl_sidecar.cli import main
from kubectl_sidecar.document import Document, moment, pid_namespace, process_start, rfc3339
from kubectl_sidecar.table import lines, short


def document(now: float, since_boot: float, **fields: object) -> str:
    web = {
        "output": "web.json",
        "state": "ok",
        "required": True,
        "every": 30.0,
        "lastSuccess": rfc3339(now - 12),
        "lastChange": rfc3339(now - 3 * 86400 - 7200),
        "nextAttempt": rfc3339(now + 18),
        "failures": 0,
        "lastError": None,
    }
    node = {
        "output": "node-status.json",
        "state": "failing",
        "required": False,
        "every": 600.0,
        "lastSuccess": rfc3339(now - 3700),
        "lastChange": None,
        "nextAttempt": None,
        "failures": 4,
        "lastError": "kubectl exited with 1: no route to host",
    }
    new = {**web, "output": "new", "state": "starting", "lastSuccess": None, "lastChange": None}
    usual = {
        "version": 1,
        "time": rfc3339(now),
        "sinceBoot": since_boot,
        "pid": os.getpid(),
        "pidNamespace": pid_namespace(),
        "processStart": process_start(os.getpid()),
        "heartbeat": rfc3339(now),
        "stuck": [],
        "reloadError": None,
        "tasks": [web, node, {**new, "nextAttempt": None}],
    }
    return json.dumps({**usual, **fields}, indent=1) + "\n"


TABLE = """\
OUTPUT            STATE               AGE   CHANGED  FAILURES  NEXT  ERROR
web.json          ok                  12s   3d2h     0         18s   -
node-status.json  failing (optional)  1h1m  -        4         -     kubectl exited with 1: no route to host
new               starting            -     -        0         -     -
"""


def shown(**fields: object) -> str:
    now, since_boot = moment()
    text = document(now, since_boot, **fields)
    return "".join(f"{line}\n" for line in lines(Document("/run/status.json", text), now))


def test_the_table_is_for_people() -> None:
    assert shown() == TABLE


def test_what_is_wrong_with_the_whole_of_it_comes_first() -> None:
    gone = shown(pid=2**22 + 1)
    assert gone == "not alive: process 4194305, which wrote /run/status.json, has ended\n" + TABLE


def test_a_stuck_refresh_is_shown() -> None:
    first, _, row, *_ = shown(stuck=["web.json"]).splitlines()
    assert first == "not alive: web.json: its refresh is stuck long past the timeout"
    assert row.split()[:2] == ["web.json", "stuck"]


def test_a_refused_reload_is_shown_with_its_places() -> None:
    error = "tasks:1:5: unknown directive @evry\n    @evry 5m cat a > b\n    ^"
    assert shown(reloadError=error) == (
        f"{TABLE}the last reload was refused, the tasks above go on:\n{error}\n"
    )


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
    path.write_text(document(*moment()))
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
    assert capsys.readouterr().err == (
        "--watch: stdout is no terminal; use kubectl exec -it, or leave --watch out\n"
    )


@pytest.mark.slow
def test_watch_refreshes_in_place_until_it_is_told_to_stop(status_file: Path) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (20, 60))
    words = [sys.executable, "-m", "kubectl_sidecar", "status", "--watch", f"--status-file={status_file}"]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs) as watching:
        os.close(theirs)
        first = os.read(ours, 4096).decode()
        assert first.startswith("\x1b[HOUTPUT            STATE               AGE  ")
        assert first.endswith("\x1b[K\r\n\x1b[J")
        assert (
            max(len(line.replace("\x1b[H", "").replace("\x1b[K", "")) for line in first.split("\r\n")) == 60
        )
        status_file.unlink()
        second = os.read(ours, 4096).decode()
        assert second.startswith(f"\x1b[Hthere is no status document: looked for {status_file}"[:60])
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    os.close(ours)
