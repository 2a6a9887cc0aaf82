"""Many tasks in one process: each at its own pace, whatever the others do."""

from __future__ import annotations

import itertools
import json
import re
import signal
from datetime import datetime
from pathlib import Path

import pytest

from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def fail_until(run: Sidecar, attempts: Path, count: int) -> None:
    """Cut every backoff short until there were so many attempts."""
    run.wait_for_log("failed: ")  # before it has begun, the signal would end it

    def reached() -> bool:
        run.send(signal.SIGUSR1)
        return len(lines(attempts)) >= count

    wait_until(reached)


def test_a_hanging_task_delays_no_other(sidecar: Launcher) -> None:
    run = sidecar("--every", "20ms", "sleep 1000 > hanging", "date +%N > clock")
    run.wait_for_log("clock: changed", count=10)
    assert run.stop() == 0


def test_no_more_pipelines_run_at_once_than_allowed(sidecar: Launcher, tmp_path: Path) -> None:
    log = tmp_path / "events"
    script = f"echo begin >> {log}; sleep 0.03; date +%N; echo end >> {log}"
    tasks = [f"bash -c '{script}' {number} > {number}" for number in range(5)]  # no two with the same source
    run = sidecar("--every", "10ms", "--concurrency", "2", *tasks)
    wait_until(lambda: len(lines(log)) > 60)
    assert run.stop() == 0
    at_once = list(itertools.accumulate(1 if event == "begin" else -1 for event in lines(log)))
    assert max(at_once) == 2


def test_the_first_refresh_is_immediate_and_the_next_comes_with_its_period(sidecar: Launcher) -> None:
    run = sidecar("--every", "1h", "date +%N > clock")
    first = run.wait_for_output("clock")
    assert run.output("clock").read_bytes() == first
    run.send(signal.SIGUSR1)
    run.wait_for_log("clock: changed")
    assert run.stop() == 0


def test_periods_vary_by_a_tenth(sidecar: Launcher, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    run = sidecar("--every", "1h", f"--status-file={status}", "date +%N > clock")
    periods: dict[datetime, float] = {}
    for count in range(1, 21):
        wait_until(lambda: note_period(status, periods) == count)  # noqa: B023 (called at once)
        run.send(signal.SIGUSR1)
    assert run.stop() == 0
    # Twenty draws from 12 minutes: that they all lie within one of them has a chance of 20/12^19.
    assert 54 * 60 - 10 < min(periods.values()) < max(periods.values()) - 60
    assert max(periods.values()) < 66 * 60 + 10


def note_period(status: Path, periods: dict[datetime, float]) -> int:
    """Note the seconds between the last attempt and the next one; return how many attempts were seen."""
    if status.exists() and (task := json.loads(status.read_text())["tasks"][0])["lastSuccess"]:
        last, following = (datetime.fromisoformat(task[name]) for name in ("lastAttempt", "nextAttempt"))
        periods[last] = (following - last).total_seconds()
    return len(periods)


def test_failures_are_logged_at_powers_of_two_and_the_recovery_with_their_number(
    sidecar: Launcher, tmp_path: Path
) -> None:
    attempts, good = tmp_path / "attempts", tmp_path / "good"
    line = f"bash -c 'echo >> {attempts}; test -e {good} || exit 7; echo fine' > output"
    run = sidecar("--every", "1h", line)
    fail_until(run, attempts, 9)
    good.touch()
    run.send(signal.SIGUSR1)
    recovered = run.wait_for_log("recovered")
    assert run.stop() == 0
    failures = int(recovered.split("after ")[1].split()[0])
    # What cut the last backoff short may have made one more refresh than the one that recovered.
    assert failures + 1 <= len(lines(attempts)) <= failures + 2
    said = [line.partition(" ")[2] for line in run.log_lines(" output: (failed|recovered)")]
    duration = r"[\d.]+m?s"
    failed = f": bash exited with 7; next attempt in {duration}"
    expected = [f"warn output: failed{failed}"]
    expected += [
        rf"warn output: failed \({count} times in {duration}\){failed}"
        for count in (2, 4, 8, 16, 32)
        if count <= failures
    ]
    expected += [f"info output: recovered after {failures} failures in {duration}: 5 bytes"]
    assert len(said) == len(expected)
    for line, pattern in zip(said, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_the_log_is_a_line_an_event(sidecar: Launcher) -> None:
    run = sidecar("--every", "20ms", "date +%N > clock", "echo same > output")
    run.wait_for_log("clock: changed: ")
    assert run.stop() == 0
    assert re.fullmatch(f"{TIME} info kubectl-sidecar .*: 2 tasks, UID \\d+, GID \\d+", run.log_lines()[0])
    assert re.fullmatch(f"{TIME} info output: first success: 5 bytes", run.log_lines(" output: ")[0])
    assert re.fullmatch(f"{TIME} info stopping: SIGTERM", run.log_lines("stopping")[0])


def test_the_log_can_be_json(sidecar: Launcher) -> None:
    run = sidecar("--log-format", "json", "bash -c 'echo \"a\nb\" >&2; exit 1' > output")
    run.wait_for_log("failed")
    assert run.stop() == 0
    events = [json.loads(line) for line in run.log_lines()]
    assert re.fullmatch(TIME, events[0]["time"])
    failure = next(event for event in events if event.get("task") == "output")
    assert (failure["level"], failure["message"].partition(";")[0]) == (
        "warning", "failed: bash exited with 1: a / b"
    )  # fmt: skip


def test_too_many_failures_of_one_task_end_the_program(sidecar: Launcher) -> None:
    run = sidecar("--max-failures", "3", "bash -c 'exit 6' > output", "date +%N > clock")
    assert run.wait() == 1
    assert [line.rpartition("; ")[2] for line in run.log_lines("output: failed")][-1] == "giving up"
    assert "3 times" in run.log_lines("output: failed")[-1]
    assert run.children() == {}


def test_once_is_over_when_everything_has_succeeded(sidecar: Launcher, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    flaky = f"bash -c 'echo >> {attempts}; test $(wc -l < {attempts}) -gt 2; echo $?' | grep 0 > flaky"
    run = sidecar("--once", flaky, "echo > output")
    assert run.wait() == 0
    assert (run.output("flaky").read_text(), len(lines(attempts))) == ("0\n", 3)


def test_once_fails_after_its_deadline(sidecar: Launcher) -> None:
    run = sidecar("--once", "--deadline", "300ms", "false > output", "echo > other")
    assert run.wait() == 1
    assert not run.output("output").exists()
    assert run.output("other").exists()


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--no-such-flag"], 2), (["no output"], 2), (["no-such-program > output"], 2)]
)
def test_what_can_be_known_before_anything_runs_is_status_2(
    sidecar: Launcher, arguments: list[str], status: int
) -> None:
    run = sidecar(*arguments, "echo > other")
    assert run.wait() == status
    assert not run.output("other").exists()


def test_a_bug_is_status_3_with_its_traceback(sidecar: Launcher, tmp_path: Path) -> None:
    (tmp_path / "usercustomize.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(
        "import kubectl_sidecar.retry\nkubectl_sidecar.retry.jittered = lambda _: 1 / 0\n"
    )
    run = sidecar("sleep 1000 > hanging", "echo > output", env={"PYTHONPATH": str(tmp_path)})
    assert run.wait() == 3
    assert run.log_lines()[-1] == "ZeroDivisionError: division by zero"
    assert run.log_lines("^Traceback ")
    assert run.children() == {}
