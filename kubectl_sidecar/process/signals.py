"""Take the signals of this process, and know the process groups that must end with it."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn

from kubectl_sidecar.errors import Stopping

SIGPIPE, SIGTERM, SIGKILL = int(signal.SIGPIPE), int(signal.SIGTERM), int(signal.SIGKILL)
_STOP_SIGNALS, _OTHER_SIGNALS = (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGUSR1)
# Seconds: how often to look again while something is due, and how long a start may hang in a file system.
_TICK, _LONGEST_START = 0.1, 1.0


class Groups:
    """The process groups of the stages that run, each named by the process that leads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
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

    def add(self, group: int) -> None:
        """Note a group, before starting() ends."""
        self._groups.add(group)

    def discard(self, group: int) -> None:
        """Forget a group that has ended."""
        self._groups.discard(group)

    def kill_all(self) -> None:
        """Kill every group, without grace; nothing can be started afterwards."""
        acquired = self._lock.acquire(timeout=_LONGEST_START)
        self._is_closed = True
        for group in tuple(self._groups):
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
                if ended.si_pid in self._groups:
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
        self._stopped_status = stopped_status
        # Signals that came. Handlers only make a note: an exception from one could hit sh between fork and
        # exec. A forked child notes what it gets in a copy of its own.
        self._came: deque[int] = deque()
        self._longest_stop: float | None = (
            None  # seconds; None: the next stop signal ends the program at once
        )
        self._deadline: float | None = None  # of the end that was asked for, on the monotonic clock

    @contextlib.contextmanager
    def handled(self) -> Iterator[Signals]:
        """Take the signals over for the duration of the block, even if they were ignored."""
        # What is ignored is so in the stages, too; what is handled has its default action there.
        # The kernel may give a signal to any thread: a byte in this pipe wakes the main one, which notes it.
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._note) for number in (*_STOP_SIGNALS, *_OTHER_SIGNALS)}
        # If SIGCHLD were ignored, nobody could learn the exit status of a child.
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._note if self._init else signal.SIG_DFL)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(self._read)
            os.close(self._write)

    def _note(self, number: int, _frame: object) -> None:
        self._came.append(number)

    def hold(self, longest_stop: float) -> None:
        """Leave the next stop signal to the work, which has `longest_stop` seconds to end from then on."""
        self._longest_stop = longest_stop

    def run(self, work: Callable[[], int]) -> int:
        """Call `work` in a thread, and act on signals until it has ended; return or raise what it did."""
        outcome: list[int | BaseException] = []

        def in_thread() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # noqa: BLE001 (raised again below)
                outcome.append(error)
            os.write(self._write, b"\0")

        thread = threading.Thread(target=in_thread, name="work", daemon=True)
        thread.start()
        while not outcome:
            all_reaped = not self._init or self._groups.reap_orphans()
            seconds = None if all_reaped and self._deadline is None else _TICK
            if select.select([self._read], [], [], seconds)[0]:
                os.read(self._read, 4096)
            self._act()
        thread.join()  # it may be about to write to the pipe
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _act(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._exit(0)
        while self._came:
            number = self._came.popleft()
            if number in _STOP_SIGNALS:
                if self._longest_stop is None:
                    self._exit(128 + number if self._stopped_status is None else self._stopped_status)
                self._deadline = time.monotonic() + self._longest_stop
                # The next one ends the program at once, and says so.
                self._longest_stop = self._stopped_status = None
            if number != signal.SIGCHLD:
                self.inbox.put(signal_name(number).removeprefix("SIG"))

    def _exit(self, status: int) -> NoReturn:
        # At once, whatever the threads wait for.
        self._groups.kill_all()
        os._exit(status)


def signal_group(group: int, number: int) -> None:
    """Send a signal to every process of a group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or somebody else's by now (sudo)
        os.killpg(group, number)


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")
