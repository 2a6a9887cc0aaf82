"""Waiting for a condition with a deadline: the one place of the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(check: Callable[[], T], timeout: float = 10.0, what: str = "", interval: float = 0.02) -> T:
    """Return the first truthy answer of `check`, or None from a check that only asserts.

    A falsy answer and an AssertionError both mean "not yet"; after `timeout` seconds the last one is raised.
    """
    deadline = time.monotonic() + timeout
    while True:
        # Looked at before the check, so that the last check always starts after the deadline or at it.
        late = time.monotonic() >= deadline
        try:
            answer = check()
            if answer or answer is None:
                return answer
            failure = AssertionError(f"still {answer!r}")
        except AssertionError as error:
            failure = error
        if late:
            raise AssertionError(f"{what or 'no success'} after {timeout:g} s: {failure}") from failure
        time.sleep(interval)
