"""The one wait of the program, and the signals that end it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from kubectl_sidecar.shutdown import Signals, Stopping, Wakeup, kill_group, pause, signal_name, wait_for


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


@pytest.fixture
def stop() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


def test_a_wait_ends_with_what_it_waits_for(wakeup: Wakeup, stop: Wakeup) -> None:
    threading.Timer(0.01, wakeup.set).start()
    assert wait_for([wakeup, stop], 20) == {wakeup.fileno()}


def test_a_wait_is_never_shorter_than_it_should_be() -> None:
    for _ in range(20):
        began = time.monotonic()
        wait_for([], 0.0015)
        assert time.monotonic() - began >= 0.0015


def test_a_wait_may_be_longer_than_poll_can_count(wakeup: Wakeup) -> None:
    wakeup.set()
    assert wait_for([wakeup], 1e12) == {wakeup.fileno()}


def test_a_wait_that_is_over_before_it_begins_is_no_error(wakeup: Wakeup) -> None:
    assert wait_for([wakeup], -1) == set()


def test_more_descriptors_than_select_can_name_can_be_waited_for(wakeup: Wakeup) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100), hard))
    try:
        high = fcntl.fcntl(wakeup.fileno(), fcntl.F_DUPFD_CLOEXEC, 1050)
        wakeup.set()
        assert wait_for([high], 20) == {high}
        os.close(high)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_wakeup_stays_set_for_everybody_until_it_is_cleared(wakeup: Wakeup) -> None:
    wakeup.set()
    wakeup.set()
    assert wakeup.is_set()
    assert wakeup.is_set()
    wakeup.clear()
    assert not wakeup.is_set()
    wakeup.clear()


def test_a_pause_ends_early_when_told_to(wakeup: Wakeup, stop: Wakeup) -> None:
    wakeup.set()
    pause(1000, stop, wakeup)


def test_stopping_ends_a_pause_before_anything_else(wakeup: Wakeup, stop: Wakeup) -> None:
    wakeup.set()
    stop.set()
    with pytest.raises(Stopping):
        pause(1000, stop, wakeup)


def raise_signals(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.raise_signal(number)


def test_signals_are_read_in_the_order_in_which_they_came() -> None:
    with Signals().handled() as signals:
        signals.hold()
        came = [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM]
        raise_signals(*came)
        assert signals.wait(20) == came
        assert signals.wait(0) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_there_is_anything_to_end_a_signal_ends_whatever_is_waited_for(number: signal.Signals) -> None:
    read, write = os.pipe()
    with Signals().handled():
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        with pytest.raises(Stopping):
            os.read(read, 1)
    os.close(read)
    os.close(write)


def test_a_reload_asked_for_too_early_is_no_end() -> None:
    with Signals().handled() as signals:
        raise_signals(signal.SIGHUP, signal.SIGUSR1)
        assert signals.wait(20) == [signal.SIGHUP, signal.SIGUSR1]


def test_the_handlers_of_before_come_back() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    with Signals(init=True).handled():
        assert all(signal.getsignal(number) != old for number, old in zip(numbers, before, strict=True))
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_end_of_a_child_is_news_for_init_only() -> None:
    for init, news in ((True, [signal.SIGCHLD]), (False, [])):
        with Signals(init=init).handled() as signals:
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
            assert signals.wait(0) == news


def test_a_copy_of_the_program_that_has_not_begun_yet_keeps_its_signals_to_itself() -> None:
    with Signals().handled() as signals:
        signals.hold()
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert signals.wait(0) == []


def test_something_else_can_end_the_wait_any_number_of_times() -> None:
    signals = Signals()
    for _ in range(70_000):  # more than a pipe holds
        signals.wake()
    with signals.handled():
        signals.hold()
        signal.raise_signal(signal.SIGTERM)  # lost, but it does not block
        assert signals.wait(20) == []


def test_a_group_that_is_gone_is_no_error() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {}, setpgroup=0)
    os.waitpid(child, 0)
    kill_group(child)


def test_a_group_of_somebody_else_is_no_error() -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of somebody else")
    theirs = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setpgroup=0)
    if (copy := os.fork()) == 0:
        os.setresuid(54321, 54321, 54321)
        with contextlib.suppress(BaseException):
            kill_group(theirs)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(copy, 0)[1] == 0
    os.kill(theirs, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(theirs, 0)[1]) == -signal.SIGTERM


def test_every_number_has_a_name() -> None:
    assert [signal_name(number) for number in (9, 64, 40)] == ["SIGKILL", "SIGRTMAX", "signal 40"]
