"""Keep `kubectl get --watch` running and hand its newest object to the tasks that share it.

While it cannot watch, they are polled.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from kubectl_sidecar.errors import RefreshFailed, Stopping
from kubectl_sidecar.kubectl.stderr import failure, refuses_watch
from kubectl_sidecar.process.pipeline import Ended, Launcher, Pipeline, Stop
from kubectl_sidecar.retry import LONGEST_BACKOFF, backoff, jittered
from kubectl_sidecar.task import WatchPlan
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
_RENEWED = "renewed"

# starting: the watch has told nothing yet; down: it has ended, and is tried again later.
_State = Literal["starting", "watching", "down"]


@dataclass(frozen=True, slots=True)
class Document:
    """The newest state of an object that a watch has told."""

    # JSON, ending in a newline; None: there is no such object.
    content: bytes | None


class Member(Protocol):
    """A task that shares the watch."""

    @property
    def output(self) -> str: ...
    def wake(self) -> None:
        """Hear that there is news: the watch was begun or has ended, or has told something."""


class Reflector:
    """One watch, kept alive by a thread of its own and renewed every `every` seconds, which is the resync.

    No output goes back to an older version: a watch begins with a list, which is newer than all that was
    known before it began. A task that was polled while the watch was begun has it begun once more (`renew`).
    """

    def __init__(
        self,
        plan: WatchPlan,
        every: float,
        launcher: Launcher,
        environment: Mapping[str, str],
        ended: Callable[[], None],
    ) -> None:
        """`ended` is told when its thread has come to its end."""
        self.plan = plan
        self.every = every
        self.state: _State = "starting"
        self.has_ended = False
        self.crash: BaseException | None = None
        self._launcher = launcher
        self._environment = environment
        self._ended = ended
        self.members: set[Member] = set()
        self._lock = threading.Lock()
        self.stopping = Stop()
        self._resume = threading.Event()
        self._pipeline: Pipeline | None = None
        self._newest: Document | None = None
        self._refused = False
        # It was said that the tasks are polled instead.
        self._noted = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def add(self, member: Member) -> None:
        """Wake `member` from now on; the first one starts the watch."""
        self.members.add(member)
        if self._thread.ident is None:
            self._thread.start()

    def remove(self, member: Member) -> None:
        """Wake `member` no more."""
        self.members.discard(member)

    def stop(self) -> None:
        """End the watch; `ended` is told when that has happened."""
        self.stopping.set()
        self._resume.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def renew(self) -> None:
        """Begin the watch anew, now; what the present one has told counts no more."""
        with self._lock:
            pipeline, self._pipeline = self._pipeline, None
            self.state, self._newest = "starting", None
        if pipeline is not None:
            pipeline.end()
        self._resume.set()

    def renew_if_begun(self) -> None:
        """Begin the watch anew unless it is down: its list may be older than what a task has published."""
        if self.state != "down":
            self.renew()

    def newest(self) -> Document | None:
        """Return the newest state that the watch has told; None: it has told nothing."""
        return self._newest

    def note_missing(self) -> None:
        """Take it from a task that there is no such object, while the watch itself has told nothing."""
        with self._lock:
            if self.state == "starting":
                self.state, self._newest = "watching", Document(None)

    def _run(self) -> None:
        failures = 0
        try:
            while True:
                began = time.monotonic()
                # While it is tried again, its tasks are polled: they need not hear of each try.
                self._enter("starting", wake=failures == 0)
                reason = self._watch()
                if reason == _RENEWED:
                    continue
                if reason is None or time.monotonic() - began >= _LIVED:
                    failures = 0
                    self._note_recovery()
                    continue
                failures += 1
                if self._refused or failures >= _FAILURES_BEFORE_NOTE:
                    self._note(reason)
                self._enter("down", wake=failures == 1)
                self._resume.wait(backoff(failures, _LONGEST_REFUSAL if self._refused else LONGEST_BACKOFF))
        except Stopping:
            pass
        except BaseException as error:  # noqa: BLE001 (a bug: the tasks would wait for ever)
            self.crash = error
        finally:
            self._enter("down", wake=True)
            self.has_ended = True
            self._ended()

    def _watch(self) -> str | None:
        """Watch until that ends; return why it did: None if it was time, _RENEWED if it was asked for.

        Raises Stopping. The exit status of kubectl says nothing: it is 0 when the connection is lost.
        """
        self._resume.clear()
        try:
            ended = self._listen()
        except RefreshFailed as error:
            return str(error)
        if self.stopping.is_set():
            raise Stopping
        if ended.why != "exited":
            return None if ended.why == "timeout" else _RENEWED
        self._refused = refuses_watch(ended.stderrs[0])
        return str(failure(ended)) if ended.failed() else "it keeps ending early"

    def _listen(self) -> Ended:
        """Start kubectl and pass on what it tells; raises RefreshFailed and Stopping."""
        read, write = os.pipe2(os.O_CLOEXEC)
        with open(read, "rb") as lines:
            try:
                argvs = [self.plan.argv]
                pipeline = self._launcher.start(argvs, self._environment, self.stopping, stdout=write)
            finally:
                os.close(write)
            settled = threading.Timer(_SETTLED, self._note_recovery)
            settled.daemon = True
            settled.start()
            try:
                with pipeline:
                    pipeline.limit(jittered(self.every))
                    self._pipeline = pipeline
                    longest = max(self._launcher.max_output, _LONGEST_LINE)
                    while line := lines.readline(longest):
                        if len(line) == longest and not line.endswith(b"\n"):
                            raise RefreshFailed(f"an object has more than {longest} bytes")
                        self._tell(pipeline, line)
                    return pipeline.wait()
            finally:
                settled.cancel()

    def _tell(self, pipeline: Pipeline, line: bytes) -> None:
        with self._lock:
            if pipeline is not self._pipeline:
                return  # it is being renewed
            if self.plan.feeds:
                self._newest = Document(read_event(line, with_managed_fields=self.plan.managed_fields))
            self.state = "watching"
        self._wake_members()

    def _enter(self, state: _State, *, wake: bool) -> None:
        with self._lock:
            self.state, self._newest = state, None
        if wake:
            self._wake_members()

    def _note(self, reason: str) -> None:
        if not self._noted:
            self._noted = True
            every = format_duration(min(self.every, POLL_SECONDS))
            self._log(
                logging.WARNING, f"it cannot be watched, and is refreshed every {every} instead: {reason}"
            )

    def _note_recovery(self) -> None:
        if self._noted:
            self._noted = False
            self._log(logging.INFO, "watched again")

    def _log(self, level: int, text: str) -> None:
        for member in list(self.members):
            log.log(level, text, extra={"task": member.output})

    def _wake_members(self) -> None:
        for member in list(self.members):
            member.wake()
