"""Take the signals of this process, and know the process groups that must end with it."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from kubectl_sidecar.errors import Stopping

SIGPIPE, SIGTERM, SIGKILL = int(signal.SIGPIPE), int(signal.SIGTERM), int(signal.SIGKILL)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Tells the main thread that the work has ended: nobody else sends it, and who did would change nothing.
_WAKE = signal.SIGURG
_TAKEN = (*_STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, _WAKE)
# Seconds: how often to look again while something is due, and how long a start may hang in a file system.
_TICK, _LONGEST_START = 0.1, 1.0
# Seconds: 31 years after the machine's start.
_NEVER = 1e9


class Groups:
    """The process groups of the stages that run, each named by the process that leads it."""

    def __init__(self) -> None:
        # Each from before its starting() ends until it has been reaped.
        self.running: set[int] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let one stage be started at a time; raises Stopping after kill_all()."""
        # sh switches the garbage collector off around its fork, and the reaper must know every child.
        with self._lock:
            if self._is_closed:
                raise Stopping
            try:
                yield
            finally:
                gc.enable()  # when it cannot fork, sh leaves it off

    def kill_all(self) -> None:
        """Kill every group, without grace; nothing can be started afterwards."""
        acquired = self._lock.acquire(timeout=_LONGEST_START)
        self._is_closed = True
        for group in tuple(self.running):
            signal_group(group, SIGKILL)
        if acquired:
            self._lock.release()

    def reap_orphans(self) -> bool:
        """Reap what ended of the processes that we inherited as PID 1; False: look again soon."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            # waitid() shows one ended child at a time. When it is one of ours, which sh must reap, orphans
            # may hide behind it.
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in self.running:
                    return False
                os.waitpid(ended.si_pid, os.WNOHANG)
        except ChildProcessError:
            pass  # there are no children at all
        finally:
            self._lock.release()
        return True


class Signals:
    """Hand signals to the work, whose thread is its own: nothing that it waits for can hold up a signal."""

    def __init__(self, groups: Groups, *, init: bool = False, stopped_status: int | None = None) -> None:
        """`init`: reap orphans, as PID 1. `stopped_status`: after a stop that is not held; None: 128 + n."""
        # HUP, USR1 and, while they are held, TERM and INT; None, from the work itself: something has ended.
        self.inbox: queue.Queue[str | None] = queue.Queue()
        self._groups = groups
        self._init = init
        # Only who reaps orphans need wake up whenever a child has ended.
        self._awaited = [number for number in _TAKEN if init or number != signal.SIGCHLD]
        self._stopped_status = stopped_status
        # Seconds; None: the next stop signal ends the program at once.
        self._longest_stop: float | None = None
        # Of the end that was asked for, on the monotonic clock; until then, of none.
        self._deadline = _NEVER

    @contextlib.contextmanager
    def handled(self) -> Iterator[Signals]:
        """Take the signals over for the duration of the block, even if they were ignored.

        As in tini, they are blocked, here and in every thread that is started from now on, and `run` waits
        for them: no handler can hit sh between fork and exec. A stage unblocks them before it is executed.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)
        # What is ignored is so in the stages, too; and of SIGCHLD, it would hide the exit status of a child.
        before = {number: signal.signal(number, signal.SIG_DFL) for number in _TAKEN}
        try:
            yield self
        finally:
            while signal.sigtimedwait(self._awaited, 0):
                pass  # it has ended already
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def hold(self, longest_stop: float) -> None:
        """Leave the next stop signal to the work, which has `longest_stop` seconds to end from then on."""
        self._longest_stop = longest_stop

    def run(self, work: Callable[[], int]) -> int:
        """Call `work` in a thread, and act on signals until it has ended; return or raise what it did."""
        outcome: list[int | BaseException] = []
        here = threading.get_ident()

        def in_thread() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # noqa: BLE001 (raised again below)
                outcome.append(error)
            signal.pthread_kill(here, _WAKE)

        thread = threading.Thread(target=in_thread, name="work", daemon=True)
        thread.start()
        while not outcome:
            seconds = max(0.0, self._deadline - time.monotonic())
            if self._init and not self._groups.reap_orphans():
                seconds = min(seconds, _TICK)
            if came := signal.sigtimedwait(self._awaited, seconds):
                self._act(came.si_signo)
            elif time.monotonic() >= self._deadline:
                self._exit(0)
        thread.join()  # it may be about to send its signal
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _act(self, number: int) -> None:
        if number in _STOP_SIGNALS:
            if self._longest_stop is None:
                self._exit(128 + number if self._stopped_status is None else self._stopped_status)
            self._deadline = time.monotonic() + self._longest_stop
            # The next one ends the program at once, and says so.
            self._longest_stop = self._stopped_status = None
        if number not in (signal.SIGCHLD, _WAKE):
            self.inbox.put(signal_name(number).removeprefix("SIG"))

    def _exit(self, status: int) -> NoReturn:
        # At once, whatever the threads wait for.
        self._groups.kill_all()
        os._exit(status)


def unblock() -> None:
    """Let a child have its signals again, before it executes a program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)


def signal_group(group: int, number: int) -> None:
    """Send a signal to every process of a group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or somebody else's by now (sudo)
        os.killpg(group, number)


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")
