"""When a watched task is refreshed, with scripts in place of kubectl."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_sidecar.kubectl.kubeconfig import DiscoveryCache
from kubectl_sidecar.status.recorder import Recorder
from kubectl_sidecar.supervise import worker as module
from kubectl_sidecar.supervise.refresh import Context
from kubectl_sidecar.supervise.worker import Worker
from kubectl_sidecar.task import Settings, WatchPlan
from kubectl_sidecar.watch import reflector as reflector_module
from kubectl_sidecar.watch.reflector import Reflector
from tests.harness.waiting import wait_until
from tests.unit.parse.loading import load
from tests.unit.process.running import launcher, line_count, shell, until_stopped

EVENT = """echo '{"type":"ADDED","object":{"n":1}}'"""


@contextlib.contextmanager
def watched(directory: Path, line: str, script: str, *, feeds: bool) -> Iterator[Reflector]:
    """Run the worker of a line that this script watches, and the watch, until the end of the block."""
    (task,) = load(f"bash -c {shlex.quote(line)} | cat > output")
    plan = WatchPlan(shell(script), feeds=feeds, ahead=False)
    context = Context(
        settings=Settings(output_dir=str(directory)),
        launcher=launcher(),
        environment=os.environ,
        watch_environment=os.environ,
        cache=DiscoveryCache(None),
        recorder=Recorder([]),
        slots=threading.Semaphore(1),
    )
    reflector = Reflector(plan, 1000.0, context.launcher, os.environ)
    worker = Worker(replace(task, watch=plan, every=1000.0), reflector, context)
    reflector.members["output"] = worker.wake

    with until_stopped(worker.run, worker.stop), until_stopped(reflector.run, reflector.stop):
        yield reflector


def test_a_watch_that_begins_while_its_task_is_polled_is_begun_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list may be older than what the poll has brought."""
    monkeypatch.setattr(module, "_SILENCE", 20.0)  # a slow start is no silence here
    watches, polls, fifo, good = (tmp_path / name for name in ("watches", "polls", "fifo", "good"))
    os.mkfifo(fifo)
    script = f"[ -e {good} ] || exit 1; echo >> {watches}; {EVENT}; sleep 1000 & wait"
    with watched(tmp_path, f"echo >> {polls}; cat {fifo}", script, feeds=True) as reflector:
        wait_until(lambda: line_count(polls) == 1)
        good.touch()
        wait_until(lambda: reflector.state == "watching")
        fifo.write_text("polled\n")
        wait_until(lambda: line_count(watches) == 2)
        wait_until(lambda: (tmp_path / "output").read_text() == '{"n":1}\n')
    assert line_count(polls) == 1


@pytest.mark.slow
def test_a_list_is_asked_for_once_its_changes_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET", 2.0)
    monkeypatch.setattr(module, "_LATEST", 20.0)
    polls, rest = tmp_path / "polls", tmp_path / "rest"
    script = f"for n in {{1..10}}; do echo $n; sleep 0.02; done; echo > {rest}; sleep 1000 & wait"
    with watched(tmp_path, f"echo >> {polls}; echo polled", script, feeds=False):
        wait_until(rest.exists)
        wait_until((tmp_path / "output").exists)
    assert line_count(polls) == 1


def test_what_comes_while_silence_is_looked_into_is_no_further_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.01)
    monkeypatch.setattr(reflector_module, "backoff", lambda *_: 1000.0)
    looks = tmp_path / "looks"
    go = f"{tmp_path}/go$(wc -l < {looks})"
    line = f"echo >> {looks}; go={go}; until [ -e $go ]; do sleep 0.01; done; echo polled"
    with watched(
        tmp_path, line, f"until [ -e {looks} ]; do sleep 0.01; done; exit 1", feeds=True
    ) as reflector:
        wait_until(lambda: (line_count(looks), reflector.state) == (1, "down"))
        (tmp_path / "go1").touch()
        wait_until(lambda: line_count(looks) == 2)
        assert not reflector.members["output"].is_set()
        (tmp_path / "go2").touch()
        wait_until((tmp_path / "output").exists)
