"""Policy to attempts: what is tried again, when, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from kubectl_sidecar.errors import RefreshFailed

T = TypeVar("T")

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 60.0
# Full jitter can draw 0: a failing task must not spin.
SHORTEST_BACKOFF = 0.1
PERIOD_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """How long failures are put up with: None means for ever."""

    max_failures: int | None = None
    deadline: float | None = None
    """Seconds from the first attempt after which no other one is started."""


def until_success(
    attempt: Callable[[], T],
    policy: Policy,
    *,
    pause: Callable[[float], None],
    failed: Callable[[int, RefreshFailed, float | None], None],
) -> T:
    """Call `attempt` until it succeeds; pause between attempts with exponential backoff and full jitter.

    `failed(count, error, delay)` hears of each failure and of the seconds until the next attempt (None: there
    is none, and the last RefreshFailed is raised). Whatever else `attempt` or `pause` raises ends it at once:
    that is how a shutdown gets out without one more attempt (tenacity's own stop_when_event_set makes one).
    """

    def report(state: tenacity.RetryCallState, delay: float | None) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, RefreshFailed)
        failed(state.attempt_number, error, delay)

    def give_up(state: tenacity.RetryCallState) -> T:
        report(state, None)
        assert state.outcome is not None
        return state.outcome.result()  # type: ignore[no-any-return] # raises the last failure

    retrying = tenacity.Retrying(
        sleep=pause,
        retry=tenacity.retry_if_exception_type(RefreshFailed),
        wait=tenacity.wait_random_exponential(FIRST_BACKOFF, LONGEST_BACKOFF, min=SHORTEST_BACKOFF),
        stop=_stop(policy),
        before_sleep=lambda state: report(state, state.upcoming_sleep),
        retry_error_callback=give_up,
    )
    return retrying(attempt)


def _stop(policy: Policy) -> tenacity.stop.stop_base:
    stop: tenacity.stop.stop_base = tenacity.stop_never
    if policy.max_failures is not None:
        stop |= tenacity.stop_after_attempt(policy.max_failures)
    if policy.deadline is not None:
        stop |= tenacity.stop_before_delay(policy.deadline)
    return stop


def jittered(period: float) -> float:
    """A period within 10 % of `period`, so that a thousand replicas do not beat in step."""
    return period * random.uniform(1 - PERIOD_JITTER, 1 + PERIOD_JITTER)  # noqa: S311 (nothing secret)


def renewal_backoff(short_lives: int) -> float:
    """How long to wait before what works, but keeps ending early, is begun once more."""
    longest = min(FIRST_BACKOFF + short_lives**2 / 2000, LONGEST_BACKOFF)
    return random.uniform(SHORTEST_BACKOFF, longest)  # noqa: S311
