"""What becomes of one watch, with a script in place of kubectl: its renewals, its failures, its words."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.process.pipeline import Launcher, Pipeline
from kubectl_sidecar.process.signals import Groups
from kubectl_sidecar.task import WatchPlan
from kubectl_sidecar.watch import reflector as module
from kubectl_sidecar.watch.reflector import Reflector, log
from tests.harness.waiting import wait_until
from tests.unit.process.running import launcher, line_count, shell, until_stopped

TELL = """tell() { echo '{"type":"MODIFIED","object":{"n":'$1'}}'; }; """
STAY = "sleep 1000 & wait"
POLLED = "it cannot be watched, and is refreshed every 30s instead: bash exited with 1"


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level("INFO", log.name)
    return caplog


class Member(threading.Event):
    """Notes what the newest is whenever it is woken."""

    def __init__(self, reflector: Reflector) -> None:
        super().__init__()
        self.seen: list[bytes | None] = []
        self._reflector = reflector

    def set(self) -> None:
        self.seen.append(self._reflector.newest)


@contextlib.contextmanager
def watching(script: str, starter: Launcher | None = None) -> Iterator[tuple[Reflector, Member]]:
    """Run a watch with one member; it ends with the block, whatever it waits for."""
    plan = WatchPlan(shell(TELL + script), feeds=True, ahead=False)
    reflector = Reflector(plan, 1000.0, starter or launcher(), os.environ)
    reflector.members["x"] = member = Member(reflector)
    with until_stopped(reflector.run, reflector.stop):
        yield reflector, member


def test_what_a_watch_tells_while_it_is_being_renewed_counts_no_more(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    script = f"echo >> {runs}; trap 'tell 2; exit' TERM; (( $(wc -l < {runs}) > 1 )) || tell 1; {STAY}"
    with watching(script) as (reflector, member):
        wait_until(lambda: member.seen == [None, b'{"n":1}\n'])
        reflector.renew()
        assert (reflector.state, reflector.newest) == ("starting", None)
        wait_until(lambda: line_count(runs) == 2)
        assert member.seen == [None, b'{"n":1}\n', None]


def test_a_watch_that_is_to_be_renewed_while_it_is_started_is_begun_once_more(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    starts = []

    class Starter(Launcher):
        def start(self, *words: Any, **options: Any) -> Pipeline:  # noqa: ANN401 (as they come)
            starts.append(Launcher.start(self, *words, **options))
            if len(starts) == 1:
                wait_until(lambda: line_count(runs) == 1)
                reflector.renew()
            return starts[-1]

    with watching(f"echo >> {runs}; {STAY}", Starter(Groups(), 5.0)) as (reflector, _):
        wait_until(lambda: (line_count(runs), len(starts)) == (2, 2))


@pytest.mark.parametrize(("said", "longest"), [("Error from server (Forbidden): no", 600), ("gone", 60)])
def test_only_a_watch_that_is_refused_is_said_to_be_polled_at_its_first_failure(
    said: str, longest: float, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float]] = []

    def backoff(failures: int, most: float) -> float:
        asked.append((failures, most))
        return 1000.0

    monkeypatch.setattr(module, "backoff", backoff)
    with watching(f"echo '{said}' >&2; exit 1") as (reflector, member):
        wait_until(lambda: asked == [(1, longest)])
        assert (reflector.state, len(member.seen)) == ("down", 2)
        assert logs.messages == [f"{POLLED}: {said}"] * (longest == 600)


@pytest.mark.slow
def test_failures_in_a_row_are_said_once_and_so_is_their_end(
    tmp_path: Path, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "backoff", lambda *_: 0.0)
    monkeypatch.setattr(module, "_SETTLED", 3.0)
    runs, good = tmp_path / "runs", tmp_path / "good"
    with watching(f"echo >> {runs}; [ -e {good} ] || exit 1; {STAY}"):
        wait_until(lambda: line_count(runs) > 5)
        good.touch()
        wait_until(lambda: len(logs.messages) == 2)
    assert logs.messages == [POLLED, "watched again"]
    assert [record.__dict__["task"] for record in logs.records] == ["x", "x"]
