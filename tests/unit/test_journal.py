"""What happens to the tasks is told in one line an event, and in the status document."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.document import pid_namespace, process_start
from kubectl_sidecar.journal import Journal, log, set_up_logging
from kubectl_sidecar.publish import Published
from kubectl_sidecar.taskfile import Source, load_tasks
from kubectl_sidecar.tasks import Defaults, Task

CHANGED, SAME = Published(True, 2, "aa"), Published(False, 2, "aa")


class Clock:
    def __init__(self) -> None:
        self.wall, self.since_boot = 1_800_000_000.0, 1000.0

    def __call__(self) -> tuple[float, float]:
        return self.wall, self.since_boot

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds


def tasks(text: str) -> tuple[Task, ...]:
    return load_tasks([Source("tasks", text)], {}, Defaults())


A, B = tasks("cat /a > a\n@watch @optional cat /b > b")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


@pytest.fixture
def journal(path: Path, clock: Clock) -> Journal:
    journal = Journal([str(path)], clock)
    journal.take_over([A, B])
    return journal


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, log.name)
    return caplog


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_the_whole_document(journal: Journal, path: Path, clock: Clock) -> None:
    clock.go_on(1.5)
    journal.succeeded(A, CHANGED, 30.25)
    clock.go_on(0.25)
    journal.failed(B, "kubectl exited with 1: no route to host", 0.5)
    assert path.read_text().endswith("}\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert read(path) == {
        "version": 1,
        "time": "2027-01-15T08:00:01.750Z",
        "sinceBoot": 1001.75,
        "pid": os.getpid(),
        "pidNamespace": pid_namespace(),
        "processStart": process_start(os.getpid()),
        "started": "2027-01-15T08:00:00.000Z",
        "heartbeat": "2027-01-15T08:00:00.000Z",
        "stuck": [],
        "reloadError": None,
        "tasks": [
            {
                "output": "a",
                "every": 30.0,
                "watch": False,
                "required": True,
                "state": "ok",
                "lastAttempt": "2027-01-15T08:00:01.500Z",
                "lastSuccess": "2027-01-15T08:00:01.500Z",
                "lastChange": "2027-01-15T08:00:01.500Z",
                "nextAttempt": "2027-01-15T08:00:31.750Z",
                "failingSince": None,
                "failures": 0,
                "lastError": None,
                "bytes": 2,
                "sha256": "aa",
            },
            {
                "output": "b",
                "every": 600.0,
                "watch": True,
                "required": False,
                "state": "failing",
                "lastAttempt": "2027-01-15T08:00:01.750Z",
                "lastSuccess": None,
                "lastChange": None,
                "nextAttempt": "2027-01-15T08:00:02.250Z",
                "failingSince": "2027-01-15T08:00:01.750Z",
                "failures": 1,
                "lastError": "kubectl exited with 1: no route to host",
                "bytes": None,
                "sha256": None,
            },
        ],
    }


def test_success_ends_the_failures_and_keeps_the_last_change(
    journal: Journal, path: Path, clock: Clock
) -> None:
    journal.succeeded(A, CHANGED, 30)
    clock.go_on(30)
    journal.failed(A, "no", 1)
    journal.failed(A, "no, again", None)
    failing = read(path)["tasks"][0]
    assert (failing["failures"], failing["lastError"], failing["nextAttempt"]) == (2, "no, again", None)
    assert (failing["bytes"], failing["sha256"]) == (2, "aa")
    clock.go_on(5)
    journal.succeeded(A, SAME, 30)
    healed = read(path)["tasks"][0]
    assert (healed["failures"], healed["lastError"], healed["failingSince"]) == (0, None, None)
    assert (healed["lastChange"], healed["lastSuccess"]) == (
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:35.000Z",
    )


def test_the_document_is_replaced_after_each_attempt_also_when_nothing_changed(
    journal: Journal, path: Path, clock: Clock
) -> None:
    journal.succeeded(A, SAME, 30)
    before = path.stat().st_ino, read(path)["time"]
    clock.go_on(30)
    journal.succeeded(A, SAME, 30)
    assert read(path)["time"] > before[1]
    assert list(path.parent.iterdir()) == [path]


def test_attempts_do_not_move_the_heartbeat(journal: Journal, path: Path, clock: Clock) -> None:
    clock.go_on(40)
    journal.succeeded(A, CHANGED, 30)
    journal.failed(B, "no", 1)
    assert read(path)["heartbeat"] == "2027-01-15T08:00:00.000Z"
    journal.beat()
    assert read(path)["heartbeat"] == "2027-01-15T08:00:40.000Z"


def test_beats_in_quick_succession_are_one(journal: Journal, path: Path, clock: Clock) -> None:
    before = path.stat().st_ino
    for _ in range(100):
        journal.beat()
        clock.go_on(0.03125)
    assert path.stat().st_ino == before
    clock.go_on(2)
    journal.beat()
    assert read(path)["heartbeat"] == "2027-01-15T08:00:05.125Z"


def test_stuck_refreshes_are_logged_once_and_shown_until_they_end(
    journal: Journal, path: Path, logs: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        journal.beat(("a",))
    assert logs.messages == ["stuck: the refresh is long past its timeout; does a file system hang?"]
    assert read(path)["stuck"] == ["a"]
    journal.beat()
    assert read(path)["stuck"] == []


def test_a_clock_that_is_set_makes_nothing_older(
    journal: Journal, path: Path, clock: Clock, logs: pytest.LogCaptureFixture
) -> None:
    journal.succeeded(A, CHANGED, 30)
    clock.go_on(10)
    clock.wall += 3600
    journal.beat()
    document = read(path)
    assert document["tasks"][0]["lastSuccess"] == "2027-01-15T09:00:00.000Z"
    assert document["started"] == "2027-01-15T09:00:00.000Z"
    assert (document["time"], document["heartbeat"]) == ("2027-01-15T09:00:10.000Z",) * 2
    assert logs.messages == ["first success: 2 bytes", "the clock was set by +3600 s"]


def test_a_slewed_clock_leaves_the_times_as_they_were(journal: Journal, path: Path, clock: Clock) -> None:
    journal.succeeded(A, CHANGED, 30)
    for _ in range(100):
        clock.go_on(10)
        clock.wall += 0.005
        journal.beat()
    assert read(path)["tasks"][0]["lastSuccess"] == "2027-01-15T08:00:00.000Z"


def test_unchanged_tasks_keep_their_state_over_a_reload(journal: Journal, path: Path, clock: Clock) -> None:
    journal.succeeded(A, CHANGED, 30)
    journal.failed(B, "no", 1)
    moved, changed, new = tasks("# moved\ncat /a > a\n@watch cat /b > b\ncat /c > c")
    clock.go_on(1)
    journal.take_over([moved, changed, new])
    a, b, c = read(path)["tasks"]
    assert (a["state"], a["lastSuccess"]) == ("ok", "2027-01-15T08:00:00.000Z")
    assert (b["state"], b["failures"], b["failingSince"]) == ("starting", 0, None)
    assert c["state"] == "starting"


def test_the_last_words_of_a_task_that_was_taken_away_are_not_noted(journal: Journal, path: Path) -> None:
    journal.take_over([B])
    journal.succeeded(A, CHANGED, 30)
    journal.failed(A, "no", 1)
    assert [task["output"] for task in read(path)["tasks"]] == ["b"]


def test_a_refused_reload_is_shown_until_a_good_one(journal: Journal, path: Path) -> None:
    journal.refused("tasks:1:1: no\n    x\n    ^")
    assert read(path)["reloadError"] == "tasks:1:1: no\n    x\n    ^"
    journal.succeeded(A, CHANGED, 30)
    assert read(path)["reloadError"] is not None
    journal.take_over([A])
    assert read(path)["reloadError"] is None


def test_log_lines_of_a_task_that_fails_and_recovers(
    journal: Journal, clock: Clock, logs: pytest.LogCaptureFixture
) -> None:
    journal.succeeded(A, CHANGED, 30)
    journal.succeeded(A, SAME, 30)
    journal.succeeded(A, CHANGED, 30)
    for number in range(1, 9):
        journal.failed(A, f"no {number}", 1.26)
        clock.go_on(1)
    journal.succeeded(A, SAME, 30)
    journal.succeeded(A, Published(True, None, None), 30)
    journal.failed(A, "no", None)
    assert logs.messages == [
        "first success: 2 bytes",
        "changed: 2 bytes",
        "failed: no 1; next attempt in 1.3s",
        "failed (2 times in 1s): no 2; next attempt in 1.3s",
        "failed (4 times in 3s): no 4; next attempt in 1.3s",
        "failed (8 times in 7s): no 8; next attempt in 1.3s",
        "recovered after 8 failures in 8s: 2 bytes",
        "changed: removed: the object does not exist",
        "failed: no; giving up",
    ]


def test_a_status_file_that_cannot_be_written_is_warned_of_once(
    tmp_path: Path, clock: Clock, logs: pytest.LogCaptureFixture
) -> None:
    path, private = tmp_path / "missing" / "status.json", tmp_path / "private.json"
    journal = Journal([str(path), str(private)], clock)
    journal.take_over([A])
    journal.succeeded(A, CHANGED, 30)
    missing = f"no status file: cannot write {path}: No such file or directory (missing)"
    assert logs.messages == [missing, "first success: 2 bytes"]
    assert read(private)["tasks"][0]["state"] == "ok"
    path.parent.mkdir()
    journal.succeeded(A, SAME, 30)
    assert read(path)["tasks"][0]["state"] == "ok"
    path.unlink()
    path.parent.rmdir()
    journal.succeeded(A, SAME, 30)
    assert logs.messages[2:] == [missing]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    yield capsys
    log.handlers.clear()
    log.propagate = True


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ("text", " warn a: failed: two / lines; next attempt in 1s\n"),
        (
            "json",
            ', "level": "warning", "task": "a", "message": "failed: two\\n  lines; next attempt in 1s"}\n',
        ),
    ],
)
def test_an_event_is_one_line_whatever_is_in_it(
    style: str, line: str, path: Path, clock: Clock, logged: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(style)
    journal = Journal([str(path)], clock)
    journal.take_over([A])
    journal.failed(A, "two\n  lines", 1)
    said = logged.readouterr().err
    assert said.endswith(line)
    assert said.count("\n") == 1


def test_a_json_line_of_no_task_has_none(logged: pytest.CaptureFixture[str]) -> None:
    set_up_logging("json")
    log.info("ready")
    event = json.loads(logged.readouterr().err)
    assert event == {"time": event["time"], "level": "info", "message": "ready"}
