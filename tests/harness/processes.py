"""Programs that run beside the tests and never outlive them, and what /proc knows of processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.harness.progress import Unavailable

GRACE = 15.0


class Process:
    """A program in the background, with everything it prints in a file."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = Path(argv[0]).name
        self.log = log
        # The kernel kills it when the thread that starts it here ends, even by SIGKILL; sh sees to the moment
        # before the kernel knew. Ctrl-C reaches it only by way of stop().
        command = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ $PPID = "$0" ] && exec "$@"']
        command += [str(os.getpid()), *map(str, argv)]
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = GRACE) -> int:
        """Its exit status, negative for a signal, once it ends."""
        return self.popen.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit status; SIGKILL if it takes too long."""
        self.send(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            return self.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It is there and answers nothing."""
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def assert_running(self) -> None:
        status = self.popen.poll()
        if status is not None:
            raise Unavailable(f"{self.name} ended with {status}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """The last lines of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def marked(mark: str) -> dict[int, str]:
    """The living processes that have NAME=value in their environment, wherever they now hang: pid -> argv."""
    found = {}
    for pid in _pids():
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
                found[pid] = argv.replace(b"\0", b" ").decode(errors="replace")
    return found


def children(pid: int) -> dict[int, str]:
    """The children of a process, zombies too: pid -> state letter."""
    found = {}
    for child in _pids():
        with contextlib.suppress(OSError):
            # pid (name, which may hold spaces and parentheses) state parent ...
            state, parent = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid:
                found[child] = state
    return found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
