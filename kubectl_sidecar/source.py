"""The schedule of a source, and its one fetch a period for all the tasks that share it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.refresh import Document
from kubectl_sidecar.retry import jittered


class Source:
    """Tasks with the same source and schedule hold one of these; a task that is alone with it runs its line as it is."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._members = 0
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._due = -math.inf
        self._round = -math.inf
        self._fetched = -math.inf
        self._outcome: Document | RefreshFailed | None = None
        self._takes = 0

    def join(self) -> None:
        with self._lock:
            self._members += 1

    def leave(self) -> int:
        """Return how many tasks are left."""
        with self._lock:
            self._members -= 1
            return self._members

    def hasten(self) -> None:
        """Make the next round due now."""
        with self._lock:
            self._due = -math.inf

    def seconds_until_due(self) -> float:
        return max(self._due - time.monotonic(), 0)

    def begin(self) -> float:
        """Begin a round if one is due, else join the last one; returns when it began."""
        with self._lock:
            now = time.monotonic()
            if now >= self._due:
                self._round, self._due = now, now + jittered(self._every)
            return self._round

    def document(self, since: float, fetch: Callable[[], Document]) -> Document | None:
        """Return what the source wrote at `since` or later, fetching it if nobody has; None for a task that is alone.

        A failed fetch is everybody's failure: raises RefreshFailed.
        """
        if self._members == 1:
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
            if self._takes >= self._members:
                self._outcome = None
        if isinstance(outcome, RefreshFailed):
            raise type(outcome)(*outcome.args)
        return outcome
