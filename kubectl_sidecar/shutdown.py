"""Signals to one interruptible wait, the only sleep in the program."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
from collections.abc import Iterable, Iterator
from typing import Protocol

SIGPIPE = int(signal.SIGPIPE)
SIGTERM = int(signal.SIGTERM)
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD_SIGNAL = signal.SIGHUP
REFRESH_SIGNAL = signal.SIGUSR1
# poll(2) takes an int: longer waits end after 24 days, which no caller minds.
_LONGEST_POLL = 2**31 - 1
# Tells what _note() wrote from what merely wakes: wake(), and the bytes of signal.set_wakeup_fd().
_NOTED = 0x80


class Stopping(BaseException):
    """The program is ending; not an Exception, so that no retry ever takes it for a failed attempt."""


class SecondSignal(BaseException):
    """Asked to stop once more while stopping: the program is to exit with 128 + `number`, at once."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class HasFileno(Protocol):
    """Whatever poll(2) can wait for."""

    def fileno(self) -> int: ...


class Wakeup:
    """A flag that any number of threads can wait for together with other file descriptors: an eventfd(2)."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._fd

    def set(self) -> None:
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def is_set(self) -> bool:
        return bool(wait_for([self], 0))

    def close(self) -> None:
        os.close(self._fd)


def wait_for(sources: Iterable[HasFileno | int], seconds: float | None) -> set[int]:
    """Wait until one of `sources` can be read or is at its end, or for `seconds`; None: for ever.

    Returns the ready file descriptors; poll(2) is used because select(2) ends at descriptor 1023.
    """
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    # Rounded up: a wait that ends a fraction of a millisecond early would spin until its deadline.
    milliseconds = None if seconds is None else min(max(0, math.ceil(seconds * 1000)), _LONGEST_POLL)
    return {fd for fd, _ in poll.poll(milliseconds)}


def pause(seconds: float, stop: Wakeup, *early: Wakeup) -> None:
    """Sleep, but no longer than until one of `early` is set; raises Stopping as soon as `stop` is."""
    ready = wait_for([stop, *early], seconds)
    if stop.fileno() in ready:
        raise Stopping


class Signals:
    """The signals this program acts on, in the order they came, for the main thread to read."""

    def __init__(self, *, init: bool = False) -> None:
        """As `init`, PID 1, it also tells of children that have ended."""
        self._numbers = STOP_SIGNALS | {RELOAD_SIGNAL, REFRESH_SIGNAL} | ({signal.SIGCHLD} if init else set())
        self._owner = os.getpid()
        self._held = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        """End the wait without a signal: something else wants to be looked at."""
        with contextlib.suppress(BlockingIOError):  # full of signals: the wait ends anyway
            os.write(self._write, b"\0")

    def _note(self, number: int, _frame: object) -> None:
        # A signal can reach a forked child before it executes its program. That copy of us must not report it
        # here: the terminal's one Ctrl-C would count as two.
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, bytes([number | _NOTED]))
        if number in STOP_SIGNALS and not self._held:
            raise Stopping  # noted as well: Python drops what is raised in a destructor

    def hold(self) -> None:
        """Keep the stop signals, too, for wait(): from now on there is something to be ended in order.

        Until then they raise Stopping, so that nothing that startup waits for, such as stdin, holds up the
        end.
        """
        self._held = True

    @contextlib.contextmanager
    def handled(self) -> Iterator[Signals]:
        """Take the signals over for the duration of the block."""
        before = {number: signal.signal(number, self._note) for number in self._numbers}
        # The kernel may give a signal to any thread; _note() waits until the main one has something to do.
        wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            yield self
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float | None) -> list[signal.Signals]:
        """Return the signals that came, at the latest after `seconds` or when woken; None: wait for ever."""
        if not wait_for([self._read], seconds):
            return []
        return [signal.Signals(byte ^ _NOTED) for byte in os.read(self._read, 4096) if byte & _NOTED]


def terminate_group(group: int) -> None:
    """Ask every process of a group to end; a group that is gone already is fine."""
    _signal_group(group, signal.SIGTERM)


def kill_group(group: int) -> None:
    """End every process of a group."""
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or somebody else's by now (sudo)
        os.killpg(group, number)


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
