"""Keep one output up to date, in a thread of its own, and tell of its changes in another."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable

from kubectl_sidecar.errors import NotFound, RefreshFailed, Stopping
from kubectl_sidecar.process.pipeline import Stop
from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.retry import jittered, until_success
from kubectl_sidecar.supervise.hook import HookRunner
from kubectl_sidecar.supervise.refresh import Context, Refresher
from kubectl_sidecar.task import Task
from kubectl_sidecar.units import format_duration
from kubectl_sidecar.watch.reflector import POLL_SECONDS, Reflector

# Changes that come within _QUIET seconds of each other make one run, but none waits longer than _LATEST.
_QUIET, _LATEST = 0.05, 1.0
# A watch tells what there is within this time; silence means that there is nothing, or a slow server.
_SILENCE = 1.0


class Worker:
    """Refreshes a task for ever (or once): no other task can delay or stop it."""

    def __init__(self, task: Task, reflector: Reflector | None, context: Context) -> None:
        """`reflector` tells of changes; None: the task is polled."""
        self.task = task
        self._reflector = reflector
        self.gave_up = False
        self.crash: BaseException | None = None
        self._context = context
        self._stop = Stop()
        self._wake = threading.Event()
        self._refresher = Refresher(task, context, self._stop)
        self._hook = HookRunner(task, task.on_change, context, self._stop) if task.on_change else None
        self._running: set[Callable[[], None]] = {self._refresh_for_ever}
        if self._hook and not context.settings.once:
            self._running.add(self._hook.run)
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=task.output, daemon=True)
            for work in self._running
        ]

    @property
    def output(self) -> str:
        return self.task.output

    @property
    def has_ended(self) -> bool:
        return not self._running

    @property
    def is_watching(self) -> bool | None:
        """Whether its watch tells of changes; None: it has no watch."""
        return None if self._reflector is None else self._reflector.state == "watching"

    def start(self) -> None:
        if self._reflector is not None:
            self._reflector.add(self)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it, and the stages that it runs; `Context.ended` is told when that has happened."""
        self._stop.set()
        self._wake.set()
        if self._hook is not None:
            self._hook.send()

    def wake(self) -> None:
        """Refresh now."""
        self._wake.set()

    def join(self) -> None:
        """Wait until it has ended, and give everything back."""
        for thread in self._threads:
            thread.join()
        if self._reflector is not None:
            self._reflector.remove(self)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`, or until `wake()`. Raises Stopping when the worker is to end."""
        if not self._stop.is_set():
            self._wake.wait(seconds)
        if self._stop.is_set():
            raise Stopping

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopping:
            pass
        except RefreshFailed:
            self.gave_up = True
        except BaseException as error:  # noqa: BLE001 (a bug: in silence, the output would rot)
            self.crash = error
        finally:
            self._running.discard(work)
            self._context.ended()

    def _refresh_for_ever(self) -> None:
        settings, recorder = self._context.settings, self._context.recorder
        # The first success is told of as well: the run before may have ended before it could tell.
        is_news = True
        with contextlib.closing(self._refresher):
            while True:
                began = time.monotonic()
                published = until_success(
                    self._timed_refresh,
                    sleep=self.sleep,
                    failed=lambda error, delay: recorder.failed(self.task, str(error), delay),
                    max_failures=settings.max_failures,
                    deadline=settings.deadline if settings.once else math.inf,
                )
                pause = max(0.0, began + self._period() - time.monotonic())
                recorder.succeeded(self.task, published, pause)
                if settings.once:
                    break
                if self._hook and (published.changed or is_news):
                    self._hook.send()
                is_news = False
                self.sleep(pause)
        if self._hook:
            self._hook.tell(deadline=max(0.0, began + settings.deadline - time.monotonic()))

    def _period(self) -> float:
        is_polled_meanwhile = self.is_watching is False
        return jittered(min(self.task.every, POLL_SECONDS) if is_polled_meanwhile else self.task.every)

    def _timed_refresh(self) -> Published:
        began = time.monotonic()
        try:
            return self._refresh()
        finally:
            self._context.recorder.took(self.task, time.monotonic() - began)

    def _refresh(self) -> Published:
        """Make the output once; raises RefreshFailed and Stopping."""
        if self._reflector is not None:
            self._wait_for_watch(self._reflector, _SILENCE)
            if self._reflector.plan.feeds:
                return self._refresh_from(self._reflector)
            self._wait_for_quiet()
        # From here on a change leads to another refresh.
        self._wake.clear()
        return self._refresher.run()

    def _refresh_from(self, reflector: Reflector) -> Published:
        """Use what the watch has told; without a watch, run the whole line."""
        self._wake.clear()
        if reflector.state == "starting":
            self._find_out(reflector)
        if document := reflector.newest():
            return self._refresher.feed(document)
        published = self._refresher.run()
        reflector.renew_if_begun()
        return published

    def _find_out(self, reflector: Reflector) -> None:
        """Find out what the silence of a watch means: there is no such object, or the server is slow."""
        try:
            self._refresher.probe()
        except NotFound:
            reflector.note_missing()
        else:
            self._wait_for_watch(reflector, self.task.timeout)
        if reflector.state == "starting":
            raise RefreshFailed(f"the watch has told nothing for {format_duration(self.task.timeout)}")

    def _wait_for_watch(self, reflector: Reflector, seconds: float) -> None:
        """Wait until a watch that has just begun has told something, or has ended; `seconds` at most."""
        deadline = time.monotonic() + seconds
        while True:
            self._wake.clear()
            left = deadline - time.monotonic()
            if reflector.state != "starting" or left <= 0:
                return
            self.sleep(left)

    def _wait_for_quiet(self) -> None:
        latest = time.monotonic() + _LATEST
        while (left := latest - time.monotonic()) > 0:
            self._wake.clear()
            self.sleep(min(_QUIET, left))
            if not self._wake.is_set():
                return
