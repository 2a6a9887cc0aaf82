"""Health says what is wrong, in whole sentences, and only what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.document import Document, Unreadable, find, moment, pid_namespace, process_start, rfc3339
from kubectl_sidecar.health import paths, quick, unhealthy
from kubectl_sidecar.refresh import Slots
from kubectl_sidecar.shutdown import Wakeup

NOW, SINCE_BOOT = 1_800_000_000.0, 5000.0


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
        "stuck": [],
        "tasks": list(tasks),
    }
    return Document("/run/status.json", json.dumps({**usual, **fields}))


def verdict(shown: Document, probe: str, max_age: float | None = None, later: float = 0.0) -> str | None:
    return unhealthy(shown, probe, max_age, SINCE_BOOT + later)


NEVER: dict[str, Any] = {"state": "starting", "lastSuccess": None}
FAILING: dict[str, Any] = {"state": "failing", "lastError": "kubectl exited with 1: no route to host"}


def test_fresh_tasks_are_healthy_to_every_probe() -> None:
    for probe in ("liveness", "startup", "readiness"):
        assert verdict(document(task("a"), task("b")), probe) is None


def test_liveness_does_not_care_for_failures() -> None:
    assert verdict(document(task("a", **FAILING, lastSuccess=None)), "liveness") is None


def test_a_supervisor_without_a_heartbeat_is_not_alive() -> None:
    assert verdict(document(), "liveness", later=28) is None
    assert verdict(document(), "liveness", later=29) == "no heartbeat for 31s; there is one every 10s"


@pytest.mark.parametrize("probe", ["startup", "readiness"])
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


def test_a_stuck_refresh_is_named_by_every_probe() -> None:
    for probe in ("liveness", "startup", "readiness"):
        stuck = document(task("a", required=False), stuck=["a"])
        assert verdict(stuck, probe) == "a: its refresh is stuck long past the timeout"


def test_a_refresh_is_stuck_a_minute_after_all_its_limits_and_until_it_ends() -> None:
    slots, stop = Slots(2), Wakeup()
    with slots.held("late", stop, -59), slots.held("stuck", stop, -61):
        assert slots.stuck() == ("stuck",)
    assert slots.stuck() == ()
    stop.close()


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


def test_a_status_file_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for text in ("", "[]", "{", '{"version": 1}', '{"version": 1, "time": 5}'):
        with pytest.raises(Unreadable) as none:
            Document(str(path), text)
        assert str(none.value) == f"{path} is no status document"
    with pytest.raises(Unreadable) as newer:
        Document(str(path), json.dumps({"version": 2, "time": rfc3339(NOW)}))
    assert str(newer.value) == f"{path}: expected a status document of version 1, but version 2 came"


def test_no_status_file_at_all_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as error:
        find([f"{tmp_path}/a", f"{tmp_path}/b"])
    assert str(error.value) == (
        f"there is no status document: looked for {tmp_path}/a, {tmp_path}/b;"
        " is `kubectl-sidecar run` running in this container, as this user?"
    )


def test_an_unreadable_status_file_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as error:
        find([str(tmp_path)])
    assert str(error.value) == f"{tmp_path} cannot be read: Is a directory"


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
    Path(paths(None, environ)[0]).parent.mkdir()
    assert Path(paths(None, environ)[0]).is_relative_to(tmp_path)
    Path(str(Path(paths(None, environ)[0]).parent).replace(f"-{os.geteuid()}-", f"-{somebody}-")).mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    assert not Path(paths(None, environ)[0]).is_relative_to(tmp_path)


@pytest.fixture
def status_file(tmp_path: Path) -> Path:
    """Written just now: one task has succeeded, the other has not."""
    now, since_boot = moment()
    tasks = [task("a", lastSuccess=rfc3339(now - 30)), task("b", required=False, **NEVER)]
    path = tmp_path / "status.json"
    path.write_text(document(*tasks, time=rfc3339(now), heartbeat=rfc3339(now), sinceBoot=since_boot).text)
    return path


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "alive"),
        ("--startup", "started"),
        ("--ready", "ready"),
        ("--ready --max-age=40s", "ready"),
        ("--max-age=1h --ready", "ready"),
        ("--ready --max-age=20s", "not ready: a: the last success was 30s ago, the limit is 20s"),
    ],
)
def test_the_command_prints_one_line_and_exits_accordingly(
    words: str, line: str, status_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = quick([*words.split(), f"--status-file={status_file}"], {})
    assert (capsys.readouterr().out, status) == (f"{line}\n", int(line.startswith("not")))


def test_the_environments_max_age_is_left_to_argparse() -> None:
    assert quick(["--ready"], {"KUBECTL_SIDECAR_MAX_AGE": "5m"}) is None


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--startup --ready",
        "--max-age",
        "--max-age=5",
        "--max-age=0s",
        "--max-age=1m5s",
        "x",
        "--live",
    ],
)
def test_words_that_need_judging_are_left_to_argparse(words: str) -> None:
    assert quick(words.split(), {}) is None


def test_a_probe_loads_nothing_that_it_does_not_need(status_file: Path) -> None:
    script = (
        "import sys; from kubectl_sidecar.cli import main\n"
        "main(sys.argv[1:]); print(*sorted(sys.modules), file=sys.stderr)"
    )
    words = ["health", "--ready", "--max-age=5m", f"--status-file={status_file}"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    ours = {name for name in loaded if name.startswith("kubectl_sidecar.")}
    assert done.stdout == "ready\n"
    assert ours == {f"kubectl_sidecar.{name}" for name in ("cli", "document", "health", "runtime")}
    assert not loaded & {
        "argparse",
        "dataclasses",
        "logging",
        "sh",
        "tenacity",
        "threading",
        "typing",
        "yaml",
    }
