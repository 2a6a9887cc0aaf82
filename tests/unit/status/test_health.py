"""Health says what is wrong, in whole sentences, and only what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from kubectl_sidecar.status.document import Document, pid_namespace, process_start, rfc3339
from kubectl_sidecar.status.health import unhealthy

NOW, SINCE_BOOT = 1_800_000_000.0, 5000.0
PROBES = ("liveness", "startup", "readiness")


def task(output: str, **fields: object) -> dict[str, object]:
    usual = {"output": output, "every": 30.0, "required": True, "state": "ok", "lastError": None}
    return {**usual, "lastSuccess": rfc3339(NOW - 5), **fields}


def document(*tasks: Mapping[str, object], **fields: object) -> Document:
    """A document written just now by this process."""
    usual = {
        "version": 1,
        "time": rfc3339(NOW),
        "sinceBoot": SINCE_BOOT,
        "pid": os.getpid(),
        "pidNamespace": pid_namespace(),
        "processStart": process_start(os.getpid()),
        "heartbeat": rfc3339(NOW - 2),
        "tasks": list(tasks),
    }
    return Document("/run/status.json", json.dumps({**usual, **fields}))


def verdict(shown: Document, probe: str, max_age: float | None = None, later: float = 0.0) -> str | None:
    shown.read_at = SINCE_BOOT + later
    return unhealthy(shown, probe, max_age)


NEVER: dict[str, Any] = {"state": "starting", "lastSuccess": None}
FAILING: dict[str, Any] = {"state": "failing", "lastError": "kubectl exited with 1: no route to host"}


@pytest.mark.parametrize("probe", PROBES)
def test_fresh_tasks_are_healthy_to_every_probe(probe: str) -> None:
    assert verdict(document(task("a"), task("b")), probe) is None


def test_liveness_does_not_care_for_failures() -> None:
    assert verdict(document(task("a", **FAILING, lastSuccess=None)), "liveness") is None


def test_a_supervisor_without_a_heartbeat_is_not_alive() -> None:
    assert verdict(document(), "liveness", later=28) is None
    assert verdict(document(), "liveness", later=29) == "no heartbeat for 31s; there is one every 10s"


@pytest.mark.parametrize("probe", PROBES)
def test_what_is_not_alive_is_neither_started_nor_ready(probe: str) -> None:
    assert verdict(document(task("a")), probe, later=60) == "no heartbeat for 1m2s; there is one every 10s"


def test_a_process_that_is_gone_is_not_alive() -> None:
    gone = document(pid=2**22 + 1)
    assert verdict(gone, "liveness") == "process 4194305, which wrote /run/status.json, has ended"


def test_a_process_that_got_the_same_number_is_another_one() -> None:
    pid = os.getpid()
    other = document(processStart=1)
    assert verdict(other, "liveness") == f"process {pid}, which wrote /run/status.json, has ended"


def test_a_process_in_another_pid_namespace_is_judged_by_its_heartbeat() -> None:
    elsewhere = document(pid=2**22 + 1, pidNamespace=1)
    assert verdict(elsewhere, "liveness") is None
    assert verdict(elsewhere, "liveness", later=40) == "no heartbeat for 42s; there is one every 10s"


def test_startup_waits_for_each_required_task() -> None:
    shown = document(task("a"), task("b", **NEVER), task("c", required=False, **NEVER))
    assert verdict(shown, "startup") == "b: no success yet, the first refresh has not ended"


def test_startup_says_why_and_how_many_more() -> None:
    shown = document(task("a", **FAILING | NEVER), task("b", **NEVER), task("c", **NEVER))
    assert verdict(shown, "startup") == (
        "a: no success yet: kubectl exited with 1: no route to host (and 2 more)"
    )


def test_startup_stays_passed_however_old_the_success_is() -> None:
    shown = document(task("a", lastSuccess=rfc3339(NOW - 10**6), **FAILING))
    assert verdict(shown, "startup") is None


def test_ready_is_younger_than_three_periods() -> None:
    shown = document(task("a", lastSuccess=rfc3339(NOW - 80)), task("b", every=600.0))
    assert verdict(shown, "readiness", later=10) is None
    assert verdict(shown, "readiness", later=10.1) == "a: the last success was 1m30s ago, the limit is 1m30s"


def test_ready_takes_a_limit_and_says_what_fails() -> None:
    shown = document(task("a", **FAILING), task("b", required=False, **NEVER))
    assert verdict(shown, "readiness", 5.0) is None
    assert verdict(shown, "readiness", 4.9) == (
        "a: the last success was 5s ago, the limit is 4.9s: kubectl exited with 1: no route to host"
    )
