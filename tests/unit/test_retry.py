"""Attempts, the pauses between them and their end, without waiting for any of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from kubectl_sidecar.errors import RefreshFailed, Stopping
from kubectl_sidecar.retry import LONGEST_BACKOFF, SHORTEST_BACKOFF, backoff, jittered, until_success


class Attempts:
    """Fails so many times, then succeeds; remembers the pauses and what was told of the failures."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.made = 0
        self.pauses: list[float] = []
        self.told: list[tuple[str, float | None]] = []

    def __call__(self) -> str:
        self.made += 1
        if self.made <= self.failures:
            raise RefreshFailed(f"failure {self.made}")
        return "content"

    def run(
        self,
        sleep: Callable[[float], None] | None = None,
        *,
        max_failures: int | None = None,
        deadline: float = math.inf,
    ) -> str:
        return until_success(
            self,
            sleep=sleep or self.pauses.append,
            failed=lambda error, delay: self.told.append((str(error), delay)),
            max_failures=max_failures,
            deadline=deadline,
        )


def test_a_success_is_returned_at_once() -> None:
    attempts = Attempts(0)
    assert (attempts.run(), attempts.made, attempts.pauses, attempts.told) == ("content", 1, [], [])


def test_every_failure_is_told_with_the_pause_that_follows_it() -> None:
    attempts = Attempts(3)
    assert attempts.run() == "content"
    assert attempts.told == [(f"failure {n}", attempts.pauses[n - 1]) for n in (1, 2, 3)]


def test_the_backoff_doubles_to_a_minute_and_is_drawn_from_all_of_it() -> None:
    for_attempts = [pauses for _ in range(300) if (pauses := _pauses(12))]
    for_watches = [[backoff(failures) for failures in range(1, 13)] for _ in range(300)]
    for drawn in (for_attempts, for_watches):
        for position in range(12):
            of_position = [pauses[position] for pauses in drawn]
            most = min(0.5 * 2**position, LONGEST_BACKOFF)
            assert min(of_position) >= SHORTEST_BACKOFF
            assert max(of_position) <= most
            # Full jitter: some are near the one end, some near the other.
            assert min(of_position) < SHORTEST_BACKOFF + 0.2 * (most - SHORTEST_BACKOFF)
            assert max(of_position) > SHORTEST_BACKOFF + 0.8 * (most - SHORTEST_BACKOFF)


def test_another_longest_backoff_can_be_asked_for() -> None:
    assert 60 < max(backoff(1000, longest=600) for _ in range(300)) <= 600


def _pauses(failures: int) -> list[float]:
    attempts = Attempts(failures)
    attempts.run()
    return attempts.pauses


def test_failures_are_put_up_with_for_ever() -> None:
    attempts = Attempts(5000)
    assert attempts.run() == "content"
    assert max(attempts.pauses) <= LONGEST_BACKOFF


def test_too_many_failures_end_it_and_the_last_one_is_raised() -> None:
    attempts = Attempts(5)
    with pytest.raises(RefreshFailed) as raised:
        attempts.run(max_failures=3)
    assert (str(raised.value), attempts.made) == ("failure 3", 3)
    assert attempts.told[-1] == ("failure 3", None)
    assert None not in [delay for *_, delay in attempts.told[:-1]]


def test_one_failure_less_is_none_too_many() -> None:
    assert Attempts(2).run(max_failures=3) == "content"


def test_no_attempt_begins_after_the_deadline() -> None:
    attempts = Attempts(1)
    with pytest.raises(RefreshFailed):
        attempts.run(deadline=SHORTEST_BACKOFF / 2)
    assert (attempts.made, attempts.told) == (1, [("failure 1", None)])


def test_attempts_go_on_before_the_deadline() -> None:
    assert Attempts(3).run(deadline=1000) == "content"


def test_whatever_ends_a_pause_ends_it_all_without_one_more_attempt() -> None:
    attempts = Attempts(5)

    def pause(_: float) -> None:
        raise Stopping

    with pytest.raises(Stopping):
        attempts.run(pause)
    assert attempts.made == 1


@pytest.mark.parametrize("bug", [TypeError, AttributeError, OSError, Stopping, KeyboardInterrupt])
def test_what_is_no_failed_refresh_is_not_retried(bug: type[BaseException]) -> None:
    def attempt() -> None:
        raise bug

    with pytest.raises(bug):
        until_success(attempt, sleep=lambda _: None, failed=lambda *_: None)


def test_periods_vary_by_a_tenth_to_each_side() -> None:
    drawn = [jittered(30.0) for _ in range(1000)]
    assert 27.0 <= min(drawn) < 27.6
    assert 32.4 < max(drawn) <= 33.0
