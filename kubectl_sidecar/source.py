"""The schedule of a source, and its one fetch a period for all the tasks that share it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.refresh import Document
from kubectl_sidecar.retry import jittered
from kubectl_sidecar.shutdown import Wakeup


@dataclass(frozen=True, slots=True)
class News:
    """What a watch has told: an object, or that there is none."""

    when: float
    document: bytes | None


class Source:
    """Tasks with the same source and schedule hold one of these; a task alone with it runs its line."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._members: set[Wakeup] = set()
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._due = -math.inf
        self._round = -math.inf
        self._fetched = -math.inf
        self._outcome: Document | RefreshFailed | None = None
        self._takes = 0

    def join(self, member: Wakeup) -> None:
        """`member` is set when there may be something to do before it is due."""
        with self._lock:
            self._members.add(member)

    def leave(self, member: Wakeup) -> None:
        with self._lock:
            self._members.remove(member)

    def is_needed(self) -> bool:
        return bool(self._members)

    def stop(self) -> bool:
        """End what runs for it; True: nothing does."""
        return True

    def hasten(self) -> None:
        """Make the next round due now."""
        with self._lock:
            self._due = -math.inf

    def seconds_until_due(self, since: float) -> float:
        """How long a task whose last round was the one of `since` can sleep."""
        with self._lock:
            return 0 if self._round > since else max(self._due - time.monotonic(), 0)

    def begin(self, stop: Wakeup, *, retry: bool) -> tuple[float, News | None]:  # noqa: ARG002 (a watch needs them)
        """Begin a round if one is due, else join the last one; returns when it began, and what is to be used.

        None: nothing is known, the task's line is run.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._due:
                self._round, self._due = now, now + jittered(self._every)
            return self._round, None

    def document(self, since: float, fetch: Callable[[], Document]) -> Document | None:
        """Return what the source wrote at `since` or later, fetching it if nobody has; None for a task alone.

        A failed fetch is everybody's failure: raises RefreshFailed.
        """
        if len(self._members) == 1:
            return None
        with self._fetching:
            if self._outcome is None or self._fetched < since:
                self._fetched, self._takes = time.monotonic(), 0
                try:
                    self._outcome = fetch()
                except RefreshFailed as error:
                    self._outcome = error
            outcome = self._outcome
            self._takes += 1
            if self._takes >= len(self._members):
                self._outcome = None
        if isinstance(outcome, RefreshFailed):
            raise type(outcome)(*outcome.args)
        return outcome
