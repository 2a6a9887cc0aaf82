"""Own all workers and watches, from what is asked for to what runs."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Sequence

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.kubectl.kubeconfig import watch_environment
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.process.signals import Signals
from kubectl_sidecar.status.document import HEARTBEAT
from kubectl_sidecar.supervise.refresh import Context
from kubectl_sidecar.supervise.worker import Worker
from kubectl_sidecar.task import Task
from kubectl_sidecar.watch.reflector import Reflector

log = logging.getLogger("kubectl_sidecar")


class Supervisor:
    """Starts the tasks, acts on signals, and ends with everything that it started.

    Its loop is the only place where workers and watches are made and dropped; threads tell it of news through
    `Signals.inbox`.
    """

    def __init__(self, context: Context, loader: Loader, signals: Signals) -> None:
        self._context = context
        self._loader = loader
        self._signals = signals
        self._desired: dict[str, Task] = {}
        self._workers: dict[str, Worker] = {}
        self._reflectors: list[Reflector] = []
        self._next_look = 0.0

    def run(self, tasks: Sequence[Task]) -> int:
        """Keep the outputs of `tasks` up to date until a signal, or their end; return the exit status."""
        # The grace, and what else an orderly end may take.
        self._signals.hold(self._context.settings.grace + 5)
        self._take_over(tasks)
        try:
            while (status := self._step()) is None:
                pass
            return status
        finally:
            self._stop()

    def watches(self) -> dict[str, bool]:
        """Return of each watched output whether its watch tells of changes; any thread may ask."""
        known = [(worker.output, worker.is_watching) for worker in list(self._workers.values())]
        return {output: is_watching for output, is_watching in known if is_watching is not None}

    def _step(self) -> int | None:
        """Wait for what comes next, and act on it; return the exit status when that was the end."""
        match self._receive():
            case "TERM" | "INT" as name:
                log.info("stopping: SIG%s", name)
                return 0
            case "HUP":
                self._reload(asked=True)
            case "USR1":
                self._refresh_now()
        if self._context.settings.reload and time.monotonic() >= self._next_look:
            # Less than the time between two beats, so that no beat passes without a look.
            self._next_look = time.monotonic() + HEARTBEAT * 0.9
            self._reload(asked=False)
        self._reconcile()
        self._context.recorder.beat()
        return self._outcome()

    def _receive(self) -> str | None:
        try:
            return self._signals.inbox.get(timeout=HEARTBEAT)
        except queue.Empty:
            return None

    def _outcome(self) -> int | None:
        threads: list[Worker | Reflector] = [*self._workers.values(), *self._reflectors]
        for crash in (thread.crash for thread in threads if thread.crash is not None):
            raise crash
        workers = self._workers.values()
        if self._context.settings.once and not all(worker.has_ended for worker in workers):
            return None
        gave_up = any(worker.gave_up for worker in workers)
        return int(gave_up) if gave_up or self._context.settings.once else None

    def _reload(self, *, asked: bool) -> None:
        try:
            tasks = self._loader.load() if asked else self._loader.look()
        except InvalidInput as error:
            log.error("reload refused, the old tasks go on: %d problems", len(error.problems))
            for problem in error.problems:
                log.error("%s: %s", problem.where, problem.text)
            self._context.recorder.refused(str(error))
            return
        if tasks is not None:
            unchanged = sum(self._desired.get(task.output) == task for task in tasks)
            self._take_over(tasks)
            log.info("reloaded: %d tasks, %d of them as before", len(tasks), unchanged)

    def _take_over(self, tasks: Sequence[Task]) -> None:
        self._desired = {task.output: task for task in tasks}
        self._context.recorder.take_over(tasks)
        self._reconcile()

    def _reconcile(self) -> None:
        """Stop what is not desired any more; start what is, as soon as the one before it has ended."""
        for worker in list(self._workers.values()):
            if self._desired.get(worker.output) != worker.task:
                worker.stop()
                if worker.has_ended:
                    worker.join()
                    del self._workers[worker.output]
        for output, task in self._desired.items():
            if output not in self._workers:
                self._workers[output] = Worker(task, self._reflector(task), self._context)
                self._workers[output].start()
        for reflector in [one for one in self._reflectors if not one.members]:
            reflector.stop()
            if reflector.has_ended:
                reflector.join()
                self._reflectors.remove(reflector)

    def _reflector(self, task: Task) -> Reflector | None:
        """Return the watch of a task, which it shares with all that have the same source and period."""
        if task.watch is None or self._context.settings.once:
            return None
        for reflector in self._reflectors:
            same = (reflector.plan.argv, reflector.every) == (task.watch.argv, task.every)
            if same and not reflector.stopping.is_set():
                return reflector
        self._reflectors.append(
            Reflector(
                task.watch,
                task.every,
                self._context.launcher,
                watch_environment(self._context.environment),
                self._context.ended,
            )
        )
        return self._reflectors[-1]

    def _refresh_now(self) -> None:
        for reflector in self._reflectors:
            reflector.renew()
        for worker in self._workers.values():
            worker.wake()

    def _stop(self) -> None:
        """End every task and watch; their stages get `--grace`."""
        threads: list[Worker | Reflector] = [*self._workers.values(), *self._reflectors]
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join()
