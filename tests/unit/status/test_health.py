"""Health says what is wrong, in whole sentences, and only what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.status.document import Document, pid_namespace, process_start, rfc3339
from kubectl_sidecar.status.health import paths, unhealthy

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
    return unhealthy(shown, probe, max_age, SINCE_BOOT + later)


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


def test_the_private_document_comes_before_the_environments(tmp_path: Path) -> None:
    environ = {"TMPDIR": str(tmp_path), "KUBECTL_SIDECAR_STATUS_FILE": "/data/status.json"}
    found = paths(None, environ)
    assert found[0].startswith(f"{tmp_path}/kubectl-sidecar-")
    assert found[-1] == "/data/status.json"
    assert paths("x", environ) == ["x"]


def test_a_directory_of_somebody_else_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"TMPDIR": str(tmp_path)}
    somebody = os.geteuid() + 1
    ours = Path(paths(None, environ)[0]).parent
    ours.mkdir()
    assert Path(paths(None, environ)[0]).parent == ours
    Path(str(ours).replace(f"-{os.geteuid()}-", f"-{somebody}-")).mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    assert not Path(paths(None, environ)[0]).is_relative_to(tmp_path)
