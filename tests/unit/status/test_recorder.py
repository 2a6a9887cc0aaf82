"""What happens to the tasks is told in one line an event, and in the status document."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status.document import pid_namespace, process_start
from kubectl_sidecar.status.log import log
from kubectl_sidecar.status.recorder import Recorder
from kubectl_sidecar.task import Hook
from tests.harness.waiting import wait_until
from tests.unit.publish.inotify import watching
from tests.unit.status import mounted
from tests.unit.status.tasks import Clock, moved, task

A, B = task("a"), task("b", every=600.0, watch=True, required=False)
CHANGED, SAME, REMOVED = Published(True, 2, "aa"), Published(False, 2, "aa"), Published(True, None, None)


@pytest.fixture
def recorder(clock: Clock) -> Recorder:
    """One that has two tasks and writes no file."""
    recorder = Recorder([], clock)
    recorder.take_over([A, B])
    return recorder


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, log.name)
    return caplog


def said(recorder: Recorder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(recorder.document())
    return document


def test_the_whole_document(recorder: Recorder, clock: Clock) -> None:
    clock.go_on(1.5)
    recorder.succeeded(A, CHANGED, 30.25)
    clock.go_on(0.25)
    recorder.failed(B, "kubectl exited with 1: no route to host", 0.5)
    assert recorder.document().endswith("}\n")
    assert said(recorder) == {
        "version": 1,
        "time": "2027-01-15T08:00:01.750Z",
        "sinceBoot": 1001.75,
        "pid": os.getpid(),
        "pidNamespace": pid_namespace(),
        "processStart": process_start(os.getpid()),
        "started": "2027-01-15T08:00:00.000Z",
        "heartbeat": "2027-01-15T08:00:00.000Z",
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
                "hook": None,
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
                "hook": None,
            },
        ],
    }


def test_success_ends_the_failures_and_keeps_the_last_change(recorder: Recorder, clock: Clock) -> None:
    recorder.succeeded(A, CHANGED, 30)
    clock.go_on(30)
    recorder.failed(A, "no", 1)
    recorder.failed(A, "no, again", None)
    failing = said(recorder)["tasks"][0]
    assert (failing["failures"], failing["lastError"], failing["nextAttempt"]) == (2, "no, again", None)
    assert (failing["bytes"], failing["sha256"]) == (2, "aa")
    clock.go_on(5)
    recorder.succeeded(A, SAME, 30)
    healed = said(recorder)["tasks"][0]
    assert (healed["failures"], healed["lastError"], healed["failingSince"]) == (0, None, None)
    assert healed["lastChange"] == "2027-01-15T08:00:00.000Z"
    assert healed["lastSuccess"] == "2027-01-15T08:00:35.000Z"


def test_an_output_that_was_taken_away_has_no_size(recorder: Recorder) -> None:
    recorder.succeeded(A, CHANGED, 30)
    recorder.succeeded(A, REMOVED, 30)
    removed = said(recorder)["tasks"][0]
    assert (removed["state"], removed["bytes"], removed["sha256"]) == ("ok", None, None)


def test_attempts_do_not_move_the_heartbeat(recorder: Recorder, clock: Clock) -> None:
    clock.go_on(40)
    recorder.succeeded(A, CHANGED, 30)
    recorder.failed(B, "no", 1)
    assert said(recorder)["heartbeat"] == "2027-01-15T08:00:00.000Z"
    recorder.beat()
    assert said(recorder)["heartbeat"] == "2027-01-15T08:00:40.000Z"


def test_a_beat_moves_the_heartbeat_and_an_attempt_does_not(recorder: Recorder, clock: Clock) -> None:
    clock.go_on(2)
    recorder.succeeded(A, SAME, 30)
    recorder.failed(B, "no", 1)
    assert said(recorder)["heartbeat"] == "2027-01-15T08:00:00.000Z"
    recorder.beat()
    assert said(recorder)["heartbeat"] == "2027-01-15T08:00:02.000Z"


@pytest.mark.parametrize(("step", "told"), [(3600, "+3600"), (-7200, "-7200")])
def test_a_clock_that_is_set_makes_nothing_older(
    recorder: Recorder, clock: Clock, logs: pytest.LogCaptureFixture, step: int, told: str
) -> None:
    recorder.succeeded(A, CHANGED, 30)
    clock.go_on(10)
    before = said(recorder)
    clock.wall += step
    recorder.beat()
    after = said(recorder)
    assert after["tasks"][0]["lastSuccess"] != before["tasks"][0]["lastSuccess"]
    assert after["sinceBoot"] == before["sinceBoot"]
    for name in ("lastAttempt", "lastSuccess", "lastChange", "nextAttempt"):
        assert _apart(before["time"], before["tasks"][0][name]) == _apart(
            after["time"], after["tasks"][0][name]
        )
    assert _apart(before["time"], before["started"]) == _apart(after["time"], after["started"]) == 10
    assert _apart(before["time"], after["time"]) == -step
    assert logs.messages == ["first success: 2 bytes", f"the clock was set by {told} s"]


def _apart(later: str, earlier: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_a_slewed_clock_leaves_the_times_as_they_were(recorder: Recorder, clock: Clock) -> None:
    recorder.succeeded(A, CHANGED, 30)
    for _ in range(100):
        clock.go_on(10)
        clock.wall += 0.005
        recorder.beat()
    assert said(recorder)["tasks"][0]["lastSuccess"] == "2027-01-15T08:00:00.000Z"


def test_unchanged_tasks_keep_their_state_over_a_reload(recorder: Recorder, clock: Clock) -> None:
    recorder.succeeded(A, CHANGED, 30)
    recorder.failed(B, "no", 1)
    clock.go_on(1)
    recorder.take_over([moved(A), task("b", every=600.0, watch=True), task("c")])
    a, b, c = said(recorder)["tasks"]
    assert (a["state"], a["lastSuccess"]) == ("ok", "2027-01-15T08:00:00.000Z")
    assert (b["state"], b["failures"], b["failingSince"]) == ("starting", 0, None)
    assert c["state"] == "starting"


def test_the_last_words_of_a_task_that_was_taken_away_are_not_noted(
    recorder: Recorder, logs: pytest.LogCaptureFixture
) -> None:
    recorder.take_over([B])
    recorder.succeeded(A, CHANGED, 30)
    recorder.failed(A, "no", 1)
    assert [task["output"] for task in said(recorder)["tasks"]] == ["b"]
    assert logs.messages == []


def test_a_refused_reload_is_shown_until_a_good_one(recorder: Recorder) -> None:
    recorder.refused("tasks:1:1: no\n    x\n    ^")
    assert said(recorder)["reloadError"] == "tasks:1:1: no\n    x\n    ^"
    recorder.succeeded(A, CHANGED, 30)
    assert said(recorder)["reloadError"] is not None
    recorder.take_over([A])
    assert said(recorder)["reloadError"] is None


def test_log_lines_of_a_task_that_fails_and_recovers(
    recorder: Recorder, clock: Clock, logs: pytest.LogCaptureFixture
) -> None:
    recorder.succeeded(A, CHANGED, 30)
    recorder.succeeded(A, SAME, 30)
    recorder.succeeded(A, CHANGED, 30)
    for number in range(1, 9):
        recorder.failed(A, f"no {number}", 1.26)
        clock.go_on(1)
    recorder.succeeded(A, SAME, 30)
    recorder.succeeded(A, REMOVED, 30)
    recorder.failed(A, "no", None)
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
    assert {record.task for record in logs.records} == {"a"}  # type: ignore[attr-defined] # extra={"task"}


def test_a_hook_has_a_state_of_its_own(recorder: Recorder, clock: Clock) -> None:
    hooked = task("a", hook=Hook(url="http://h/"))
    recorder.take_over([hooked])
    unknown = dict.fromkeys(("lastAttempt", "lastSuccess", "failingSince", "lastError"))
    assert said(recorder)["tasks"][0]["hook"] == {"state": "starting", "failures": 0, **unknown}
    recorder.hook_succeeded(hooked)
    clock.go_on(1)
    recorder.hook_failed(hooked, "no", 1)
    clock.go_on(1)
    recorder.hook_failed(hooked, "no, again", None)
    state = said(recorder)["tasks"][0]
    assert (state["state"], state["failures"], state["lastError"]) == ("starting", 0, None)
    assert state["hook"] == {
        "state": "failing",
        "failures": 2,
        "lastAttempt": "2027-01-15T08:00:02.000Z",
        "lastSuccess": "2027-01-15T08:00:00.000Z",
        "failingSince": "2027-01-15T08:00:01.000Z",
        "lastError": "no, again",
    }
    recorder.take_over([moved(hooked)])
    assert said(recorder)["tasks"][0]["hook"] == state["hook"]
    recorder.hook_succeeded(hooked)
    healed = said(recorder)["tasks"][0]["hook"]
    assert (healed["state"], healed["failures"], healed["lastError"]) == ("ok", 0, None)


def test_log_lines_of_a_hook_that_fails_and_recovers(
    recorder: Recorder, clock: Clock, logs: pytest.LogCaptureFixture
) -> None:
    hooked = task("a", hook=Hook(url="http://h/"))
    recorder.hook_failed(hooked, "no", 1)  # a reload has taken it away
    recorder.hook_succeeded(hooked)
    recorder.take_over([hooked])
    recorder.hook_succeeded(hooked)
    recorder.hook_succeeded(hooked)
    for number in range(1, 5):
        recorder.hook_failed(hooked, f"no {number}", 1.26)
        clock.go_on(1)
    recorder.hook_succeeded(hooked)
    recorder.hook_failed(hooked, "no", None)
    assert logs.messages == [
        "on-change: first success",
        "on-change failed: no 1; next attempt in 1.3s",
        "on-change failed (2 times in 1s): no 2; next attempt in 1.3s",
        "on-change failed (4 times in 3s): no 4; next attempt in 1.3s",
        "on-change: recovered after 4 failures in 4s",
        "on-change failed: no; giving up",
    ]
    assert {record.task for record in logs.records} == {"a"}  # type: ignore[attr-defined] # extra={"task"}


def test_a_burst_of_changes_makes_few_documents(tmp_path: Path) -> None:
    with watching(tmp_path) as watcher:
        began = time.monotonic()
        recorder = Recorder([str(tmp_path / "status.json")])
        while time.monotonic() < began + 0.3:
            recorder.beat()
        recorder.close()
        made = watcher.events().count("MOVED_TO status.json")
    # The first one at once, then one in a tenth of a second, and the last one.
    assert 2 <= made <= 2 + (time.monotonic() - began) / 0.1


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def wait_for_state(path: Path, state: str) -> None:
    wait_until(lambda: path.exists() and read(path)["tasks"][0]["state"] == state)


def test_every_path_has_the_document_and_nothing_beside_it(tmp_path: Path) -> None:
    paths = [tmp_path / "private.json", tmp_path / "public.json"]
    recorder = Recorder([str(path) for path in paths])
    recorder.take_over([A])
    recorder.succeeded(A, CHANGED, 30)
    for path in paths:
        wait_for_state(path, "ok")
        assert path.stat().st_mode & 0o777 == 0o644
    recorder.close()
    assert sorted(tmp_path.iterdir()) == paths


def test_the_document_is_replaced_after_an_attempt_also_when_nothing_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "status.json", Clock()
    recorder = Recorder([str(path)], clock)
    recorder.take_over([A])
    recorder.succeeded(A, SAME, 30)
    wait_for_state(path, "ok")
    before = read(path)["time"]
    clock.go_on(30)
    recorder.succeeded(A, SAME, 30)
    wait_until(lambda: read(path)["time"] > before)
    recorder.close()


@pytest.mark.slow
def test_a_status_file_that_cannot_be_written_is_warned_of_once(
    tmp_path: Path, logs: pytest.LogCaptureFixture
) -> None:
    path, private = tmp_path / "missing" / "status.json", tmp_path / "private.json"
    recorder = Recorder([str(path), str(private)])
    recorder.take_over([A])
    missing = f"no status file: cannot write {path}: No such file or directory (missing)"
    wait_until(lambda: logs.messages == [missing])
    recorder.succeeded(A, CHANGED, 30)
    wait_for_state(private, "ok")
    path.parent.mkdir()
    recorder.failed(A, "no", 1)
    wait_for_state(path, "failing")
    path.unlink()
    path.parent.rmdir()
    recorder.succeeded(A, SAME, 30)
    wait_until(lambda: logs.messages.count(missing) == 2)
    recorder.close()


def alone(words: Sequence[str], script: str, *arguments: object) -> None:
    """Run a script behind `words`, which mount something for it."""
    root = Path(__file__).parents[3]
    command = [*words, sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=60)
    assert done.returncode == 0, done.stderr


FULL_DISK = """
import logging, sys
from pathlib import Path
from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status.recorder import Recorder
from tests.harness.waiting import wait_until
from tests.unit.status.tasks import task

volume = Path(sys.argv[1])
path, ballast, one = volume / "status.json", volume / "ballast", task("a")
lines = []
handler = logging.StreamHandler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("kubectl_sidecar").addHandler(handler)
recorder = Recorder([str(path)])
recorder.take_over([one])
wait_until(lambda: path.exists() and "starting" in path.read_text())
before = path.read_bytes()
ballast.write_bytes(b"x" * 4096)
for _ in range(3):
    recorder.succeeded(one, Published(True, 2, "aa"), 30.0)
    wait_until(lambda: lines)
recorder.close()
assert path.read_bytes() == before
assert sorted(volume.iterdir()) == [ballast, path]
why = "no space left in the volume: it must hold the old and the new content at once"
assert lines == [f"no status file: cannot write {path}: {why}"], lines
"""


def test_a_full_disk_keeps_the_last_document(tmp_path: Path) -> None:
    alone(mounted.small(tmp_path), FULL_DISK, tmp_path)


HANGING_VOLUME = """
import json, sys, time
from pathlib import Path
from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status import recorder as module
from tests.harness.waiting import wait_until
from tests.unit.status.tasks import task

module.CLOSING_SECONDS = 0.1
public, private, one = Path(sys.argv[1], "status.json"), Path(sys.argv[2]), task("a")
began = time.monotonic()
recorder = module.Recorder([str(public), str(private)])
recorder.take_over([one])
for _ in range(1000):
    recorder.succeeded(one, Published(True, 2, "aa"), 30.0)
    recorder.beat()
recorder.failed(one, "no", None)
assert time.monotonic() - began < 5
wait_until(lambda: private.exists() and json.loads(private.read_text())["tasks"][0]["state"] == "failing")
began = time.monotonic()
recorder.close()
assert 0.09 < time.monotonic() - began < 5
"""


@pytest.mark.slow
def test_a_volume_that_hangs_holds_up_nothing_else(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    alone(mounted.hanging(volume), HANGING_VOLUME, volume, tmp_path / "private.json")
