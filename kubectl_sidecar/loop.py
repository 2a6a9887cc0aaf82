"""All tasks, from what is asked for to what runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kubectl_sidecar.children import Children
from kubectl_sidecar.document import HEARTBEAT
from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.shutdown import (
    REFRESH_SIGNAL,
    RELOAD_SIGNAL,
    STOP_SIGNALS,
    SecondSignal,
    Signals,
)
from kubectl_sidecar.source import Source
from kubectl_sidecar.taskloop import Means, SourceKey, TaskLoop, make_source, source_key
from kubectl_sidecar.tasks import Task

log = logging.getLogger("kubectl_sidecar")


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
        self._stop_undesired()
        for output, task in self.desired.items():
            if output not in self.loops:
                self.loops[output] = TaskLoop(task, self._source(task), self.means)
        for loop in self.loops.values():
            loop.start()

    def _stop_undesired(self) -> None:
        for output, loop in list(self.loops.items()):
            if self.desired.get(output) != loop.task:
                loop.stop()
                if loop.has_ended:
                    loop.close()
                    del self.loops[output]
        for key, source in list(self.sources.items()):
            if not source.is_needed() and source.stop():
                del self.sources[key]

    def _source(self, task: Task) -> Source:
        key = source_key(task)
        if key not in self.sources:
            self.sources[key] = make_source(task, self.means)
        return self.sources[key]

    def _refresh_now(self) -> None:
        for source in self.sources.values():
            source.hasten()
        for loop in self.loops.values():
            loop.refresh_now()

    def _stop(self) -> None:
        """End every task. Their children get `--grace`, unless a second signal comes."""
        self.desired = {}
        self._reconcile()
        while self.loops or self.sources:
            for number in self.signals.wait(self._reap()):
                if number in STOP_SIGNALS:
                    self.children.kill_all()
                    raise SecondSignal(number)
            self._reconcile()
