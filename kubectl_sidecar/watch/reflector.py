"""Keep `kubectl get --watch` running and hand its newest object to the tasks that share it.

While it cannot watch, they are polled.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.kubectl.stderr import failure, refuses_watch
from kubectl_sidecar.process.pipeline import Launcher, Pipeline, Stop
from kubectl_sidecar.retry import LONGEST_BACKOFF, backoff, jittered
from kubectl_sidecar.task import Stage, WatchPlan
from kubectl_sidecar.units import format_duration
from kubectl_sidecar.watch.event import read_event

log = logging.getLogger("kubectl_sidecar")

# Period of a task while its watch is down.
POLL_SECONDS = 30.0
# A watch that lived this long is renewed at once when it ends, any other with backoff: it costs the server no
# more than polling does.
_LIVED = POLL_SECONDS
# Where the watch itself is refused, somebody must change a Role first.
_LONGEST_REFUSAL = 600.0
# A watch that is refused is over before this; one that is not is said to work again.
_SETTLED = 5.0
# When something else goes wrong, the polled tasks are the first to tell.
_FAILURES_BEFORE_NOTE = 3
# An object of the API has at most 1.5 MiB (etcd's limit), more as text; a line is held in memory.
_LONGEST_LINE = 4 << 20
_RECOVERED = "watched again"

# starting: the watch has told nothing yet; down: it has ended, and is tried again later.
_State = Literal["starting", "watching", "down"]


class _Refused(RefreshFailed):
    """The server has answered that what a watch needs is not to be had."""


@dataclass(eq=False)
class Reflector:
    """One watch, kept alive by `run` and renewed every `every` seconds, which is the resync.

    No output goes back to an older version: a watch begins with a list, which is newer than all that was
    known before it began. A task that was polled while the watch was begun has it begun once more (`renew`).
    """

    plan: WatchPlan
    every: float  # seconds
    launcher: Launcher
    environment: Mapping[str, str]  # of kubectl
    stop: Stop = field(default_factory=Stop)
    # The outputs of the tasks that share it. Each event is set when there is news: the watch was begun or has
    # ended, or has told something.
    members: dict[str, threading.Event] = field(default_factory=dict)
    state: _State = "starting"
    # What the watch has told last, where it feeds: JSON, ending in a newline; empty: there is no such object.
    newest: bytes | None = None
    # The level of what was said last of it. WARNING: that the tasks are polled instead.
    _said: int = logging.INFO
    _pipeline: Pipeline | None = None
    # Set by renew(): what the present watch tells counts no more.
    _renewed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def renew(self) -> None:
        """Begin the watch anew, now; what the present one has told counts no more."""
        with self._lock:
            self._enter("starting", wake=False)
            self._renewed.set()
            if self._pipeline is not None:
                self._pipeline.end()

    def note_missing(self) -> None:
        """Take it from a task that there is no such object, while the watch itself has told nothing."""
        with self._lock:
            if self.state == "starting":
                self._enter("watching", b"", wake=False)

    def run(self) -> NoReturn:
        """Keep the watch alive; raises Stopping."""
        failures, pause = 0, 0.0
        while True:
            self.stop.sleep(pause, self._renewed)
            began, pause = time.monotonic(), 0.0
            # While it is tried again, its tasks are polled: they need not hear of each try.
            self._enter("starting", wake=failures == 0)
            try:
                is_fine = self._watch()
            except RefreshFailed as error:
                is_fine = time.monotonic() - began >= _LIVED
                if not is_fine:
                    failures += 1
                    pause = self._go_down(failures, error)
            if is_fine:
                failures = 0
                self._say(logging.INFO, _RECOVERED)

    def _go_down(self, failures: int, error: RefreshFailed) -> float:
        """Have the tasks polled; return the seconds until the watch is tried again."""
        is_refused = isinstance(error, _Refused)
        if is_refused or failures >= _FAILURES_BEFORE_NOTE:
            every = format_duration(min(self.every, POLL_SECONDS))
            text = f"it cannot be watched, and is refreshed every {every} instead: {error}"
            self._say(logging.WARNING, text)
        self._enter("down", wake=failures == 1)
        return backoff(failures, _LONGEST_REFUSAL if is_refused else LONGEST_BACKOFF)

    def _watch(self) -> bool:
        """Watch until it is time for a new list (True), or until renew() or a stop (False).

        Raises RefreshFailed when the watch has ended by itself, and Stopping. The exit status of kubectl
        says nothing: it is 0 when the connection is lost.
        """
        read, write = os.pipe()
        with open(read, "rb") as lines:
            with open(write, "wb"):
                stages = [Stage(self.plan.argv)]
                pipeline = self.launcher.start(stages, self.environment, self.stop, stdout=write)
            with pipeline:
                pipeline.after(jittered(self.every), pipeline.end, "timeout")
                pipeline.after(_SETTLED, self._say, logging.INFO, _RECOVERED)
                with self._lock:
                    self._pipeline = pipeline
                    if self._renewed.is_set():
                        pipeline.end()
                longest = max(self.launcher.max_output, _LONGEST_LINE)
                while line := lines.readline(longest):
                    if len(line) == longest and not line.endswith(b"\n"):
                        raise RefreshFailed(f"an object has more than {longest} bytes")
                    self._tell(line)
                ended = pipeline.wait()
        if ended.why == "exited":
            if not ended.failed():
                raise RefreshFailed("it keeps ending early")
            error = failure(ended)
            raise _Refused(str(error)) if refuses_watch(ended.stderrs[0]) else error
        return ended.why == "timeout"

    def _tell(self, line: bytes) -> None:
        with self._lock:
            if self._renewed.is_set():
                return
            newest = None
            if self.plan.feeds:
                newest = read_event(line, with_managed_fields=self.plan.managed_fields) or b""
            self._enter("watching", newest)

    def _enter(self, state: _State, newest: bytes | None = None, *, wake: bool = True) -> None:
        with self._lock:
            self.state, self.newest = state, newest
            for event in list(self.members.values()) if wake else ():
                event.set()

    def _say(self, level: int, text: str) -> None:
        """Say it of each task, unless the last that was said had this level."""
        if level != self._said:
            self._said = level
            for output in list(self.members):
                log.log(level, text, extra={"task": output})
