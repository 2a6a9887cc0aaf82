"""One task, from its first refresh to its end."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubectl_sidecar.ahead import Feeder
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.journal import Journal
from kubectl_sidecar.publish import Published
from kubectl_sidecar.refresh import Document, Refresher
from kubectl_sidecar.retry import Policy, until_success
from kubectl_sidecar.shutdown import Stopping, Wakeup, pause
from kubectl_sidecar.source import Source
from kubectl_sidecar.tasks import Task
from kubectl_sidecar.watched import Programs, WatchedSource
from kubectl_sidecar.watching import plan

SourceKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Means:
    """What every task works with."""

    refresher: Refresher
    journal: Journal
    policy: Policy
    once: bool
    ended: Callable[[], None]
    """Told when a task or a watch has come to its end."""


def source_key(task: Task) -> SourceKey:
    """Tasks for which this is equal share their source."""
    return task.stages[0].argv, task.every, task.timeout, plan(task.stages).argvs if task.watch else None


def make_source(task: Task, means: Means) -> Source:
    """Make the source of a task and of all that share it."""
    if means.once or not task.watch:
        return Source(task.every)
    watching, refresher = plan(task.stages), means.refresher
    name = f"{task.output} (watch)"
    programs = Programs(
        watch=lambda listener: refresher.watch(watching, listener),
        feeds=watching.feeds,
        probe=lambda stop: refresher.fetch(task, stop),
        slot=lambda stop: refresher.slots.held(name, stop, 2 * task.timeout),
    )
    return WatchedSource(task.output, task.every, task.timeout, programs, means.ended)


class TaskLoop:
    """Refreshes a task for ever (or once) in a thread of its own: no other task can delay or stop it."""

    def __init__(self, task: Task, source: Source, means: Means) -> None:
        self.task = task
        self.has_ended = False
        self.gave_up = False
        self.crash: BaseException | None = None
        self._source = source
        self._means = means
        self._since = -math.inf
        self._stop = Wakeup()
        self._wake = Wakeup()
        self._feeder = Feeder(means.refresher, task, ahead=task.watch and plan(task.stages).ahead)
        self._thread = threading.Thread(target=self._run, name=task.output, daemon=True)
        source.join(self._wake)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def refresh_now(self) -> None:
        self._wake.set()

    def close(self) -> None:
        """Give everything back, once it has ended."""
        self._thread.join()
        self._source.leave(self._wake)
        self._stop.close()
        self._wake.close()

    def _run(self) -> None:
        try:
            with contextlib.closing(self._feeder):
                self._refresh_until_success()
                while not self._means.once:
                    self._sleep()
                    self._refresh_until_success()
        except Stopping:
            return
        except RefreshFailed:
            self.gave_up = True
        except BaseException as error:  # noqa: BLE001 (a bug: in silence, the output would rot)
            self.crash = error
        finally:
            self.has_ended = True
            self._means.ended()

    def _sleep(self) -> None:
        while (seconds := self._source.seconds_until_due(self._since)) > 0:
            pause(seconds, self._stop, self._wake)
            self._wake.clear()

    def _refresh_until_success(self) -> None:
        attempts = 0

        def attempt() -> Published:
            nonlocal attempts
            attempts += 1
            self._wake.clear()
            return self._refresh(retry=attempts > 1)

        published = until_success(
            attempt,
            self._means.policy,
            pause=lambda seconds: pause(seconds, self._stop, self._wake),
            failed=lambda _, error, delay: self._means.journal.failed(self.task, str(error), delay),
        )
        self._means.journal.succeeded(self.task, published, self._source.seconds_until_due(self._since))

    def _refresh(self, *, retry: bool) -> Published:
        self._since, news = self._source.begin(self._stop, retry=retry)
        if news is not None:
            return self._feeder.refresh(news.document, self._stop)
        # A retry wants something newer than what has just failed.
        since = time.monotonic() if retry else self._since
        refresher = self._means.refresher

        def document() -> Document | None:
            return self._source.document(since, lambda: refresher.fetch(self.task, self._stop))

        return refresher.refresh(self.task, self._stop, document)
