"""Keep one output up to date, in a thread of its own, and tell of its changes in another."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time

from kubectl_sidecar.errors import NotFound, RefreshFailed
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
        self.reflector = reflector
        self.stop = Stop()
        # Set when there may be news: refresh now.
        self.wake = threading.Event()
        self.hook = HookRunner(task, task.on_change, context, self.stop) if task.on_change else None
        self._context = context
        self._refresher = Refresher(task, context, self.stop)
        self._sleep = functools.partial(self.stop.sleep, wake=self.wake)

    def run(self) -> None:
        """Refresh for ever, or until `once` has succeeded; raises Stopping, and RefreshFailed to give up."""
        settings, recorder = self._context.settings, self._context.recorder
        # The first success is told of as well: the run before may have ended before it could tell.
        is_news = True
        with contextlib.closing(self._refresher):
            while True:
                began = time.monotonic()
                published = until_success(
                    self._timed_refresh,
                    sleep=self._sleep,
                    failed=lambda error, delay: recorder.failed(self.task, str(error), delay),
                    max_failures=settings.max_failures,
                    deadline=settings.deadline if settings.once else math.inf,
                )
                pause = max(0.0, began + self._period() - time.monotonic())
                recorder.succeeded(self.task, published, pause)
                if settings.once:
                    break
                if self.hook and (published.changed or is_news):
                    self.hook.send()
                is_news = False
                self._sleep(pause)
        if self.hook:
            self.hook.tell(deadline=max(0.0, began + settings.deadline - time.monotonic()))

    def _period(self) -> float:
        is_down = self.reflector is not None and self.reflector.state != "watching"
        return jittered(min(self.task.every, POLL_SECONDS) if is_down else self.task.every)

    def _timed_refresh(self) -> Published:
        began = time.monotonic()
        try:
            return self._refresh()
        finally:
            self._context.recorder.took(self.task, time.monotonic() - began)

    def _refresh(self) -> Published:
        """Make the output once; raises RefreshFailed and Stopping."""
        watch = self.reflector
        if watch is not None:
            self._wait_for_watch(watch, _SILENCE)
            if not watch.plan.feeds:
                self._wait_for_quiet()
            elif watch.state == "starting":
                self._find_out(watch)
        # From here on a change leads to another refresh.
        self.wake.clear()
        if watch is None or not watch.plan.feeds:
            return self._refresher.run()
        if (document := watch.newest) is not None:
            return self._refresher.feed(document)
        published = self._refresher.run()
        if watch.state != "down":
            watch.renew()  # its list may be older than what was published
        return published

    def _find_out(self, watch: Reflector) -> None:
        """Find out what the silence of a watch means: there is no such object, or the server is slow."""
        try:
            self._refresher.probe()
        except NotFound:
            watch.note_missing()
            return
        self._wait_for_watch(watch, self.task.timeout)
        if watch.state == "starting":
            raise RefreshFailed(f"the watch has told nothing for {format_duration(self.task.timeout)}")

    def _wait_for_watch(self, watch: Reflector, seconds: float) -> None:
        """Wait until a watch that has just begun has told something, or has ended; `seconds` at most."""
        deadline = time.monotonic() + seconds
        while watch.state == "starting" and (left := deadline - time.monotonic()) > 0:
            self._sleep(left)

    def _wait_for_quiet(self) -> None:
        latest = time.monotonic() + _LATEST
        while (left := latest - time.monotonic()) > 0 and self._sleep(min(_QUIET, left)):
            pass
