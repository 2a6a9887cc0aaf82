"""Own all workers and watches, from what is asked for to what runs."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from kubectl_sidecar.errors import InvalidInput, RefreshFailed, Stopping
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
        # How each of their threads ends, kept until none is desired any more.
        self._threads: dict[Worker | Reflector, list[Future[None]]] = {}
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
        workers = list(self._workers.values())
        watched = {worker.task.output: worker.reflector for worker in workers if worker.reflector}
        return {output: reflector.state == "watching" for output, reflector in watched.items()}

    def _step(self) -> int | None:
        """Wait for what comes next, and act on it; return the exit status when that was the end."""
        came = None
        with contextlib.suppress(queue.Empty):
            came = self._signals.inbox.get(timeout=HEARTBEAT)
        match came:
            case "TERM" | "INT" as name:
                log.info("stopping: SIG%s", name)
                return 0
            case "HUP":
                self._reload(asked=True)
            case "USR1":
                for reflector in self._reflectors:
                    reflector.renew()
                for worker in self._workers.values():
                    worker.wake.set()
        if self._context.settings.reload and time.monotonic() >= self._next_look:
            # Less than the time between two beats, so that no beat passes without a look.
            self._next_look = time.monotonic() + HEARTBEAT * 0.9
            self._reload(asked=False)
        self._reconcile()
        self._context.recorder.beat()
        return self._outcome()

    def _outcome(self) -> int | None:
        """Return the exit status when that was the end; raises what is a bug in a thread."""
        threads = [thread for threads in self._threads.values() for thread in threads]
        errors = [thread.exception() for thread in threads if thread.done()]
        for error in errors:
            if error is not None and not isinstance(error, RefreshFailed):
                raise error
        is_over = len(errors) == len(threads) if self._context.settings.once else any(errors)
        return int(any(errors)) if is_over else None

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
        for output, worker in list(self._workers.items()):
            if self._desired.get(output) != worker.task and self._end(worker):
                if worker.reflector is not None:
                    del worker.reflector.members[output]
                del self._workers[output]
        for output, task in self._desired.items():
            if output not in self._workers:
                self._workers[output] = self._worker(task)
        for reflector in [one for one in self._reflectors if not one.members]:
            if self._end(reflector):
                self._reflectors.remove(reflector)

    def _worker(self, task: Task) -> Worker:
        reflector = self._reflector(task)
        worker = Worker(task, reflector, self._context)
        if reflector is not None:
            reflector.members[task.output] = worker.wake
        self._start(worker, task.output, worker.run)
        if worker.hook is not None and not self._context.settings.once:
            self._start(worker, task.output, worker.hook.run)
        return worker

    def _reflector(self, task: Task) -> Reflector | None:
        """Return the watch of a task, which it shares with all that have the same source and period."""
        if task.watch is None or self._context.settings.once:
            return None
        for reflector in self._reflectors:
            same = (reflector.plan.argv, reflector.every) == (task.watch.argv, task.every)
            if same and not reflector.stop.is_set():
                return reflector
        context = self._context
        reflector = Reflector(task.watch, task.every, context.launcher, context.watch_environment)
        self._reflectors.append(reflector)
        self._start(reflector, "watch", reflector.run)
        return reflector

    def _start(self, owner: Worker | Reflector, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread that ends when its owner is stopped, and then tells the loop."""
        thread: Future[None] = Future()

        def run() -> None:
            try:
                with contextlib.suppress(Stopping):
                    work()
                thread.set_result(None)
            except BaseException as error:  # noqa: BLE001 (the loop judges it)
                thread.set_exception(error)
            self._signals.inbox.put(None)

        threading.Thread(target=run, name=name, daemon=True).start()
        self._threads.setdefault(owner, []).append(thread)

    def _end(self, owner: Worker | Reflector) -> bool:
        """Stop a worker or a watch; tell whether it has ended."""
        owner.stop.set()
        has_ended = all(thread.done() for thread in self._threads[owner])
        if has_ended:
            del self._threads[owner]
        return has_ended

    def _stop(self) -> None:
        """End every task and watch; their stages get `--grace`."""
        for owner in self._threads:
            owner.stop.set()
        wait(thread for threads in self._threads.values() for thread in threads)
