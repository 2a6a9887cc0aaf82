"""A source that a watch tells of changes: when the watch is begun and renewed, what is done without."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.errors import NotFound, RefreshFailed
from kubectl_sidecar.retry import jittered, renewal_backoff
from kubectl_sidecar.shutdown import Stopping, Wakeup, pause, wait_for
from kubectl_sidecar.source import News, Source
from kubectl_sidecar.watch import Listener, Watch

log = logging.getLogger("kubectl_sidecar")

# A watch tells what there is within this time; silence means that there is nothing, or a slow server.
_SILENCE = 1.0
# A trigger watch that found nothing may have looked just before the line did: the line is run once more.
_SECOND_LOOK = 10.0
# Changes that come within _QUIET of each other make one run, but none waits longer than _LATEST.
_QUIET, _LATEST = 0.05, 1.0
# A watch that lived this long is renewed at once when it ends.
_LIVED = 3.0
# Without a watch; a watch that is refused is tried again after 1, 2, 4 ... seconds.
_POLL, _LONGEST_REFUSAL = 30.0, 600.0
# What only the watch is refused for; of anything else the line itself will tell.
_REFUSED = re.compile(
    r"Error from server \((?:Forbidden|MethodNotAllowed|BadRequest|NotFound)\)|error: you may only"
)


@dataclass(frozen=True, slots=True)
class Programs:
    """What a watched source runs; each raises RefreshFailed, or Stopping when the given Wakeup is set."""

    watch: Callable[[Listener], Watch]
    feeds: bool
    """As in Watching."""
    probe: Callable[[Wakeup], object]
    """Runs the source once; raises NotFound."""
    slot: Callable[[Wakeup], AbstractContextManager[None]]
    """Bounds how many programs start at once."""


class WatchedSource(Source):
    """While its watch lives, what that tells is the newest there is; without one the line is run, as a poll.

    No output goes back to an older version: a watch begins with a list that is newer than all that was known
    before, and nothing else is asked while it lives.
    """

    def __init__(
        self, name: str, every: float, timeout: float, programs: Programs, ended: Callable[[], None]
    ) -> None:
        """`ended` is told when a watch is over, whoever ended it."""
        super().__init__(every)
        self._name = name
        self._timeout = timeout
        self._programs = programs
        self._ended = ended
        self._beginning = threading.Lock()
        self._watch: Watch | None = None
        self._connected = False
        """The watch has told what there is, and lives."""
        self._news: News | None = None
        self._changing_since: float | None = None
        self._renewal = self._next_watch = -math.inf
        self._second_look = math.inf
        self._short_lives = self._refusals = 0

    def stop(self) -> bool:
        if self._watch is not None:
            self._watch.stop()
            if not self._watch.has_ended:
                return False
            self._end_watch()
        return True

    def hasten(self) -> None:
        with self._lock:
            self._due = self._renewal = self._next_watch = -math.inf

    def begin(self, stop: Wakeup, *, retry: bool) -> tuple[float, News | None]:
        """Begin or renew the watch if it is time; raises RefreshFailed and Stopping."""
        with self._beginning:
            if self._alive() and time.monotonic() >= self._renewal:
                self._end_watch()
            if self._alive() and not self._connected:
                self._listen(stop)
            elif not self._alive() and time.monotonic() >= self._next_watch:
                self._end_watch()
                with self._programs.slot(stop):
                    self._connect(stop, retry=retry)
            if self._programs.feeds and self._news is not None:
                return self._news.when, self._news
            return self._new_round(stop), None

    def _new_round(self, stop: Wakeup) -> float:
        """Begin a round of running the line, once the changes have come to rest."""
        while self._changing_since is not None and (left := self._due - time.monotonic()) > 0:
            pause(left, stop)
        with self._lock:
            now = time.monotonic()
            if now >= self._due:
                self._round, self._changing_since = now, None
                without = max(min(now + min(self._every, _POLL), self._next_watch), now)
                self._due = min(self._renewal, self._second_look) if self._connected else without
                self._second_look = math.inf
            return self._round

    def _alive(self) -> bool:
        return self._watch is not None and not self._watch.has_ended

    def _end_watch(self) -> None:
        watch, self._watch, self._connected = self._watch, None, False
        if watch is not None:
            watch.stop()
            watch.close()
            if watch.crash is not None:
                raise watch.crash

    def _connect(self, stop: Wakeup, *, retry: bool) -> None:
        self._renewal = time.monotonic() + jittered(self._every)
        self._watch = watch = self._programs.watch(Listener(self._tell, self._over))
        self._listen(stop)
        if self._connected:
            if self._refusals:
                log.info("watched again", extra={"task": self._name})
            self._refusals = 0
        elif watch.has_ended:
            self._note_refusal(watch.reason, retry=retry)

    def _listen(self, stop: Wakeup) -> None:
        """Wait until the watch has told what there is, or has ended."""
        watch = self._watch
        assert watch is not None
        if not _heard(watch, stop, _SILENCE):
            self._make_sure(watch, stop)
        told = self._news is not None and self._news.when >= watch.began
        with self._lock:
            self._connected = (
                told if self._programs.feeds else not watch.has_ended or self._changing_since is not None
            )
            if self._connected and self._programs.feeds:
                self._due = self._renewal
        if watch.has_ended:
            self._over(watch)

    def _make_sure(self, watch: Watch, stop: Wakeup) -> None:
        """Silence means that there is no such object, if the server says so when it is asked."""
        if not self._programs.feeds:
            self._second_look = time.monotonic() + _SECOND_LOOK
            return
        try:
            self._programs.probe(stop)
        except NotFound:
            with self._lock:
                if not watch.heard.is_set():
                    self._set_news(None)
            return
        if not _heard(watch, stop, self._timeout):
            self._end_watch()
            raise RefreshFailed(f"the watch has told nothing for {format_duration(self._timeout)}")

    def _note_refusal(self, reason: str, *, retry: bool) -> None:
        """Let the line be run instead; if that fails as well, its retries set the pace."""
        self._end_watch()
        now = time.monotonic()
        self._news = None
        self._next_watch = now
        if not retry and _REFUSED.search(reason):
            self._next_watch += min(2.0 ** min(self._refusals, 10), _LONGEST_REFUSAL)
            self._refusals += 1
            if self._refusals == 1:
                text = "it cannot be watched, and is refreshed every %s instead: %s"
                every = format_duration(min(self._every, _POLL))
                log.warning(text, every, reason, extra={"task": self._name})
        elif not retry:
            self._short_lives += 1
            self._next_watch += renewal_backoff(self._short_lives)
        with self._lock:
            self._due = min(self._due, self._next_watch)

    def _tell(self, line: bytes) -> None:
        """Take what the watch tells, in its thread."""
        with self._lock:
            if self._programs.feeds:
                kind, _, document = line.partition(b",")
                self._set_news(None if kind == b'["DELETED"' else document[:-1] + b"\n")
                return
            now = time.monotonic()
            self._changing_since = self._changing_since or now
            due = min(now + _QUIET, self._changing_since + _LATEST)
            earlier, self._due = due < self._due, due
            if earlier:
                self._wake()

    def _set_news(self, document: bytes | None) -> None:
        now = time.monotonic()
        self._news = News(now, document)
        self._round = now
        self._wake()

    def _wake(self) -> None:
        for member in self._members:
            member.set()

    def _over(self, watch: Watch) -> None:
        """See to it that the watch is renewed: at once, unless it keeps ending early."""
        with self._lock:
            if self._connected and watch is self._watch:
                self._connected = False
                now = time.monotonic()
                self._short_lives = 0 if now - watch.began >= _LIVED else self._short_lives + 1
                self._next_watch = now + (renewal_backoff(self._short_lives) if self._short_lives else 0)
                self._due = min(self._due, self._next_watch)
                self._wake()
        self._ended()


def _heard(watch: Watch, stop: Wakeup, seconds: float) -> bool:
    ready = wait_for([watch.heard, stop], seconds)
    if stop.fileno() in ready:
        raise Stopping
    return bool(ready)
