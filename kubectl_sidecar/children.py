"""Start one program, know all that were started, and reap what nobody else will."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import threading
from collections.abc import Sequence
from typing import Any

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.lean import without
from kubectl_sidecar.shutdown import kill_group


def _no_event_loop() -> None:
    raise RuntimeError("no running event loop")


# sh 2.4 needs these two for `await` and for its `__version__` only, and they are 5.4 MB of private memory.
_UNUSED_BY_SH: dict[str, dict[str, Any]] = {
    "asyncio": {"Queue": object, "get_running_loop": _no_event_loop},
    "importlib.metadata": {"version": lambda _: "2.4", "PackageNotFoundError": ImportError},
}
with without(_UNUSED_BY_SH):
    import sh

# Facts about sh 2.4.0 behind the options: _bg=True, and not 1, makes the program ignore SIGHUP; without
# _tty_out=False the output is a terminal and jq colours it; _bg_exc would print tracebacks; an exit status
# outside _ok_code raises an exception that holds the output; _close_fds costs 0.4 ms, and every descriptor
# that Python opens is close-on-exec; the default _log_msg logs the whole command line. `_timeout` is not
# used: it adds 100 ms to every command, and signals only the one process.
_START: dict[str, Any] = {
    "_bg": 1,
    "_bg_exc": False,
    "_tty_out": False,
    "_new_group": True,
    "_close_fds": False,
    "_ok_code": range(-64, 256),
    "_internal_bufsize": 0,
    "_log_msg": lambda _ran, _call_args, pid=None: f"pid {pid}",
}
# What OProc.__init__ of sh 2.4.0 has open when fork or exec fails.
_PIPES = ("session_pipe_read", "session_pipe_write", "exc_pipe_read", "exc_pipe_write")
_CHILD_ENDS = ("_stdin_child_fd", "_stdout_child_fd", "_stderr_child_fd")


class _Patient(threading.Event):
    """What sh's thread of a program waits for, a second at a time, before it looks at it again: a minute.

    It is told of the end anyway, by wait(). Thirty such threads are a third of a percent of a core at rest.
    """

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(timeout and 60)


class Children:
    """The processes of this program, so that orphans can be told from them, and all be killed at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        logging.getLogger("sh").setLevel(logging.WARNING)

    def start(self, argv: Sequence[str], options: dict[str, Any]) -> Any:  # noqa: ANN401 (sh has no types)
        """Start one program; raises RefreshFailed when it cannot be started."""
        # One at a time: sh switches the garbage collector off around its fork, and the reaper must know
        # every child.
        with self._lock:
            try:
                process = sh.Command(argv[0])(*argv[1:], **_START, **options)
            except sh.CommandNotFound as error:
                raise RefreshFailed(f"{argv[0]}: no such program on PATH") from error
            except (sh.ForkException, OSError, RuntimeError) as error:
                _tidy_after(error)
                # A ForkException is the child's traceback, which ends in "[Errno 8] Exec format error:
                # b'/x'".
                last_line = str(error).strip().rpartition("\n")[2]
                reason = re.sub(r"^\s*\w+Error: |\[Errno \d+\] |: b'.*", "", last_line)
                raise RefreshFailed(f"{argv[0]}: cannot be started: {reason}") from error
            self._groups.add(process.pid)
            process.process._quit_threads.__class__ = _Patient  # noqa: SLF001 (sh has no option for it)
            return process

    def forget(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)

    def kill_all(self) -> None:
        """End every group at once, without grace."""
        for group in list(self._groups):
            kill_group(group)

    def reap_orphans(self) -> bool:
        """Reap what ended of the processes that we inherited as PID 1; False: look again soon.

        waitid() shows one ended child at a time. When it is one of ours, which sh must reap, orphans may hide
        behind it.
        """
        with self._lock:
            while True:
                try:
                    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                except ChildProcessError:
                    return True
                if ended is None:
                    return True
                if ended.si_pid in self._groups:
                    return False
                os.waitpid(ended.si_pid, os.WNOHANG)


def _tidy_after(error: BaseException) -> None:
    """Undo what sh 2.4.0 leaves when it cannot start a program: gc off, open descriptors, a process.

    Under a limit on processes every failed start would otherwise cost up to nine descriptors and a zombie.
    """
    gc.enable()
    trace = error.__traceback__
    while trace is not None and "session_pipe_read" not in trace.tb_frame.f_code.co_varnames:
        trace = trace.tb_next
    if trace is None:
        return
    names = trace.tb_frame.f_locals
    started = vars(names["self"])
    if (pid := started.get("pid")) is None:  # fork, or a pipe for it, failed
        left_open = [names.get(name) for name in _PIPES] + [started.get(name) for name in _CHILD_ENDS]
    else:
        left_open = [names[name] for name in _PIPES[:2]] if isinstance(error, sh.ForkException) else []
        kill_group(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for fd in left_open:
        if fd is not None:
            os.close(fd)


def reap(process: Any) -> int:  # noqa: ANN401 (sh has no types)
    """Wait for a program that was started; returns its exit status, negative: the signal that killed it."""
    if process.process.command is not None:
        # It has the status before it starts a thread to watch its others; there may be too many threads.
        with contextlib.suppress(RuntimeError):
            process.wait()
        # sh's one reference cycle, 57 KB a pipeline.
        process.process.command = None
    return int(process.process.exit_code)
