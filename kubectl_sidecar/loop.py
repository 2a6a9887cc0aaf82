"""All tasks, a thread for each, from their first refresh to their end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kubectl_sidecar.commands import Children
from kubectl_sidecar.errors import InvalidInput, RefreshFailed
from kubectl_sidecar.journal import Journal
from kubectl_sidecar.publish import Published
from kubectl_sidecar.refresh import Refresher
from kubectl_sidecar.retry import Policy, until_success
from kubectl_sidecar.shutdown import (
    REFRESH_SIGNAL,
    RELOAD_SIGNAL,
    STOP_SIGNALS,
    SecondSignal,
    Signals,
    Stopping,
    Wakeup,
    pause,
)
from kubectl_sidecar.source import Source
from kubectl_sidecar.document import HEARTBEAT
from kubectl_sidecar.tasks import Task

log = logging.getLogger("kubectl_sidecar")

SourceKey = tuple[tuple[str, ...], float, float, bool]


def source_key(task: Task) -> SourceKey:
    """Tasks for which this is equal share their source."""
    return task.stages[0].argv, task.every, task.timeout, task.watch


@dataclass(frozen=True, slots=True)
class Means:
    """What every task works with."""

    refresher: Refresher
    journal: Journal
    policy: Policy
    once: bool
    ended: Callable[[], None]
    """Told when a task has come to its end."""


class TaskLoop:
    """One task, refreshed for ever (or once) in a thread of its own, so that no other task can delay or stop it."""

    def __init__(self, task: Task, source: Source, means: Means) -> None:
        self.task = task
        self.source = source
        self.has_ended = False
        self.gave_up = False
        self.crash: BaseException | None = None
        self._means = means
        self._stop = Wakeup()
        self._wake = Wakeup()
        self._thread = threading.Thread(target=self._run, name=task.output, daemon=True)

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
        self._stop.close()
        self._wake.close()

    def _run(self) -> None:
        try:
            while True:
                self._refresh_until_success()
                if self._means.once:
                    return
                pause(self.source.seconds_until_due(), self._stop, self._wake)
        except Stopping:
            return
        except RefreshFailed:
            self.gave_up = True
        except BaseException as error:  # a bug: a thread that dies in silence would leave its output to rot
            self.crash = error
        finally:
            self.has_ended = True
            self._means.ended()

    def _refresh_until_success(self) -> None:
        attempts = 0

        def attempt() -> Published:
            nonlocal attempts
            attempts += 1
            self._wake.clear()
            began = self.source.begin()
            # A retry wants something newer than what has just failed.
            since = began if attempts == 1 else time.monotonic()
            return self._means.refresher.refresh(
                self.task,
                self._stop,
                lambda: self.source.document(
                    since, lambda: self._means.refresher.fetch(self.task, self._stop)
                ),
            )

        published = until_success(
            attempt,
            self._means.policy,
            pause=lambda seconds: pause(seconds, self._stop, self._wake),
            failed=lambda _, error, delay: self._means.journal.failed(self.task, str(error), delay),
        )
        self._means.journal.succeeded(self.task, published, self.source.seconds_until_due())


@dataclass(slots=True)
class Supervisor:
    """Starts the tasks, acts on signals, and ends with everything that it started."""

    means: Means
    children: Children
    signals: Signals
    reload: Callable[[bool], Sequence[Task] | None]
    """Reads the tasks again: when asked (True), or None if nothing changed; raises InvalidInput."""
    init: bool
    """We are PID 1: orphans are ours to reap."""
    desired: dict[str, Task] = field(default_factory=dict)
    loops: dict[str, TaskLoop] = field(default_factory=dict)
    sources: dict[SourceKey, Source] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task]) -> int:
        """Keep the outputs of `tasks` up to date until a signal, or their end; returns the exit status."""
        self.signals.hold()
        self._take_over(tasks)
        try:
            while (status := self._step()) is None:
                pass
            return status
        finally:
            self._stop()

    def _step(self) -> int | None:
        """Wait for what comes next, act on it; returns the exit status when that was the end."""
        for number in self.signals.wait(self._reap()):
            if number in STOP_SIGNALS:
                log.info("stopping: %s", number.name)
                return 0
            if number == RELOAD_SIGNAL:
                self._reload(asked=True)
            if number == REFRESH_SIGNAL:
                self._refresh_now()
        self._reload(asked=False)
        self._reconcile()
        self.means.journal.beat(self.means.refresher.slots.stuck())
        return self._outcome()

    def _outcome(self) -> int | None:
        loops = self.loops.values()
        for loop in loops:
            if loop.crash is not None:
                raise loop.crash
        if self.means.once:
            return int(any(loop.gave_up for loop in loops)) if all(loop.has_ended for loop in loops) else None
        return 1 if any(loop.gave_up for loop in loops) else None

    def _reap(self) -> float:
        """Reap orphans; returns how long the next wait may be."""
        return HEARTBEAT if not self.init or self.children.reap_orphans() else 0.1

    def _reload(self, *, asked: bool) -> None:
        try:
            tasks = self.reload(asked)
        except InvalidInput as error:
            log.error("reload refused, the old tasks go on: %d problems", len(error.problems))
            for problem in error.problems:
                log.error("%s: %s", problem.where, problem.text)
            self.means.journal.refused(str(error))
            return
        if tasks is not None:
            unchanged = sum(self.desired.get(task.output) == task for task in tasks)
            self._take_over(tasks)
            log.info("reloaded: %d tasks, %d of them as before", len(tasks), unchanged)

    def _take_over(self, tasks: Sequence[Task]) -> None:
        self.desired = {task.output: task for task in tasks}
        self.means.journal.take_over(tasks)
        self._reconcile()

    def _reconcile(self) -> None:
        """Stop what is not desired any more; start what is, as soon as the one before it has ended."""
        for output, loop in list(self.loops.items()):
            if self.desired.get(output) != loop.task:
                loop.stop()
                if loop.has_ended:
                    loop.close()
                    del self.loops[output]
                    if not loop.source.leave():
                        del self.sources[source_key(loop.task)]
        for output, task in self.desired.items():
            if output not in self.loops:
                source = self.sources.setdefault(source_key(task), Source(task.every))
                self.loops[output] = TaskLoop(task, source, self.means)
                source.join()
        for loop in self.loops.values():
            loop.start()

    def _refresh_now(self) -> None:
        for source in self.sources.values():
            source.hasten()
        for loop in self.loops.values():
            loop.refresh_now()

    def _stop(self) -> None:
        """End every task. Their children get `--grace`, unless a second signal comes."""
        self.desired = {}
        self._reconcile()
        while self.loops:
            for number in self.signals.wait(self._reap()):
                if number in STOP_SIGNALS:
                    self.children.kill_all()
                    raise SecondSignal(number)
            self._reconcile()
