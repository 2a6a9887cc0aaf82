"""The schedule of a source, and the fetch that the tasks on it share."""

from __future__ import annotations

import pytest

from kubectl_sidecar.errors import NotFound, RefreshFailed
from kubectl_sidecar.refresh import Document
from kubectl_sidecar.shutdown import Wakeup
from kubectl_sidecar.source import Source


class Fetches:
    """Counts them; fails while there is an error."""

    def __init__(self) -> None:
        self.count = 0
        self.error: RefreshFailed | None = None

    def __call__(self) -> Document:
        self.count += 1
        if self.error is not None:
            raise self.error
        return Document()


def shared(members: int, every: float = 1000) -> Source:
    source = Source(every)
    for _ in range(members):
        source.join(Wakeup())
    return source


def begin(source: Source) -> float:
    return source.begin(Wakeup(), retry=False)[0]


def test_a_task_that_is_alone_with_its_source_runs_its_line() -> None:
    source, fetch = shared(1), Fetches()
    assert source.document(begin(source), fetch) is None
    assert fetch.count == 0


def test_all_members_of_a_round_get_the_one_document() -> None:
    source, fetch = shared(3), Fetches()
    documents = {source.document(begin(source), fetch) for _ in range(3)}
    assert len(documents) == fetch.count == 1


def test_a_member_that_was_slow_still_has_the_round_to_take_part_in() -> None:
    source = shared(2)
    since = begin(source)
    assert source.seconds_until_due(since - 1) == 0
    assert 900 <= source.seconds_until_due(since) <= 1100


def test_a_failed_fetch_is_the_failure_of_all() -> None:
    source, fetch = shared(2), Fetches()
    fetch.error = NotFound("no such pod")
    since = begin(source)
    for _ in range(2):
        with pytest.raises(NotFound, match="no such pod"):
            source.document(since, fetch)
    assert fetch.count == 1


def test_a_retry_fetches_again_and_gives_that_to_the_retries_of_others() -> None:
    source, fetch = shared(3), Fetches()
    since = begin(source)
    fetch.error = RefreshFailed("down")
    for _ in range(3):
        with pytest.raises(RefreshFailed):
            source.document(since, fetch)
    fetch.error = None
    retried = source.document(since + 1e-9, fetch)
    assert retried is source.document(since, fetch)
    assert fetch.count == 2


def test_nothing_is_kept_once_every_member_has_had_it() -> None:
    source, fetch = shared(2), Fetches()
    since = begin(source)
    source.document(since, fetch)
    source.document(since, fetch)
    source.document(since, fetch)
    assert fetch.count == 2


def test_hastening_makes_a_round_due_at_once() -> None:
    source = shared(1)
    since = begin(source)
    source.hasten()
    assert source.seconds_until_due(since) == 0
    assert begin(source) > since


def test_a_source_is_needed_until_its_last_member_leaves() -> None:
    source, first, second = Source(1), Wakeup(), Wakeup()
    source.join(first)
    source.join(second)
    source.leave(first)
    assert source.is_needed()
    source.leave(second)
    assert not source.is_needed()
    assert source.stop()
