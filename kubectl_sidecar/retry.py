"""Say when a failure is tried again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from kubectl_sidecar.errors import RefreshFailed

T = TypeVar("T")

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 60.0
# Full jitter can draw 0: what fails must not spin.
SHORTEST_BACKOFF = 0.1
PERIOD_JITTER = 0.1


def until_success(
    attempt: Callable[[], T],
    *,
    sleep: Callable[[float], Any],
    failed: Callable[[RefreshFailed, float | None], None],
    max_failures: int | None = None,
    deadline: float = math.inf,
) -> T:
    """Call `attempt` until it succeeds, with backoff between the attempts, and return what it returns.

    `failed(error, delay)` hears of each RefreshFailed and of the seconds until the next attempt. With None
    there is no other: after `max_failures` attempts, or when it would begin more than `deadline` seconds
    after the first. Then the last RefreshFailed is raised. Whatever else `attempt` or `sleep` raises ends it
    at once: so a stop gets out without one more attempt (tenacity's own stop_when_event_set makes one).
    """

    def report(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, RefreshFailed)
        failed(error, state.upcoming_sleep)

    stop: tenacity.stop.stop_base = tenacity.stop_before_delay(deadline)
    if max_failures is not None:
        stop |= tenacity.stop_after_attempt(max_failures)
    retrying = tenacity.Retrying(
        sleep=sleep,
        retry=tenacity.retry_if_exception_type(RefreshFailed),
        wait=tenacity.wait_random_exponential(FIRST_BACKOFF, LONGEST_BACKOFF, min=SHORTEST_BACKOFF),
        stop=stop,
        before_sleep=report,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except RefreshFailed as error:
        failed(error, None)
        raise


def backoff(failures: int, longest: float = LONGEST_BACKOFF) -> float:
    """Return the seconds to wait after `failures` failures in a row: exponential, with full jitter."""
    most = min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 20), longest)
    return random.uniform(SHORTEST_BACKOFF, most)  # noqa: S311 (nothing secret)


def jittered(period: float) -> float:
    """Return a period within 10 % of `period`, so that a thousand replicas do not beat in step."""
    return period * random.uniform(1 - PERIOD_JITTER, 1 + PERIOD_JITTER)  # noqa: S311 (nothing secret)
