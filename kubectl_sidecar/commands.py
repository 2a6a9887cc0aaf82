"""Start the stages of a pipeline, bound them, and end them with everything they started."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import re
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.lean import without
from kubectl_sidecar.shutdown import Wakeup, kill_group, signal_name, terminate_group, wait_for


def _no_event_loop() -> None:
    raise RuntimeError("no running event loop")


# sh 2.4 needs these two for `await` and for its `__version__` only, and they are 5.4 MB of private memory.
_UNUSED_BY_SH: dict[str, dict[str, Any]] = {
    "asyncio": {"Queue": object, "get_running_loop": _no_event_loop},
    "importlib.metadata": {"version": lambda _: "2.4", "PackageNotFoundError": ImportError},
}
with without(_UNUSED_BY_SH):
    import sh

STDERR_LIMIT = 8192
"""Bytes kept of what a stage writes to stderr: the last ones, where programs say why they ended."""
CUT = "…\n"
"""What stands for the others."""

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


@dataclass(frozen=True, slots=True)
class Ended:
    """How the stages of a pipeline ended, in their order."""

    why: Literal["exited", "timeout", "stopped"]
    statuses: tuple[int, ...]
    """Exit statuses; a negative one is the signal that killed the stage."""
    stderrs: tuple[str, ...]


@dataclass(slots=True)
class _Started:
    """One running stage, the leader of its own process group."""

    process: Any
    pid: int
    stderr: int
    pidfd: int | None = None
    """None: it had ended, and sh's thread had reaped it, before it could be opened."""
    tail: bytearray = field(default_factory=bytearray)
    cut: bool = False
    """More came on stderr than was kept."""

    def drain(self) -> bool:
        """Take what a pipe holds of stderr and keep the end of it; False when there can be no more.

        One read, and not as many as there is something to read: a stage may write as fast as we read.
        """
        try:
            data = os.read(self.stderr, 65536)
        except BlockingIOError:
            return True
        self.tail += data
        self.cut |= len(self.tail) > STDERR_LIMIT
        del self.tail[:-STDERR_LIMIT]
        return bool(data)

    def said(self) -> str:
        """What it wrote to stderr, in whole lines: the end of one may be data that nothing marks as such."""
        text = self.tail.decode(errors="replace")
        return CUT + text.partition("\n")[2] if self.cut else text

    def has_ended(self) -> bool:
        return self.pidfd is None or bool(wait_for([self.pidfd], 0))

    def status(self) -> int:
        """Reap it and join sh's threads; break sh's one reference cycle, 57 KB a pipeline."""
        if self.process.process.command is not None:
            # It has the status before it starts a thread to watch its others; there may be too many threads.
            with contextlib.suppress(RuntimeError):
                self.process.wait()
            self.process.process.command = None
        return int(self.process.process.exit_code)


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


class Running:
    """The started stages of one pipeline: `argv | argv | ... > stdout`; stdin None: /dev/null.

    Use it as a context manager: whatever happens in the block, no process outlives it.
    """

    def __init__(
        self,
        children: Children,
        argvs: Sequence[Sequence[str]],
        environment: Mapping[str, str],
        *,
        stdin: int | None,
        stdout: int,
        max_output: int | None,
        grace: float,
    ) -> None:
        self._children = children
        self._grace = grace
        self._stages: list[_Started] = []
        source = -1 if stdin is None else stdin
        try:
            if stdin is None:
                source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            for position, argv in enumerate(argvs):
                last = position == len(argvs) - 1
                read, write = (-1, stdout) if last else os.pipe2(os.O_CLOEXEC)
                try:
                    self._start(argv, environment, source, write, max_output if last else None)
                finally:
                    # The stages hold their ends now: end of file and SIGPIPE must reach them, not us.
                    for fd in {source, write} - {stdin, stdout}:
                        os.close(fd)
                    source = read
        except BaseException as error:
            if source not in (stdin, -1):
                os.close(source)
            self.close()
            if isinstance(error, OSError):
                raise RefreshFailed(f"the pipeline cannot be started: {error.strerror}") from error
            raise

    def _start(
        self, argv: Sequence[str], environment: Mapping[str, str], stdin: int, stdout: int, limit: int | None
    ) -> None:
        errors, write_errors = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_errors, True)
        options = {"_in": stdin, "_out": stdout, "_err": write_errors, "_env": environment}
        if limit is not None:
            # The write that would pass the limit fails; one byte more tells "too large" from "just fits". It
            # does not kill: Python ignores SIGXFSZ, so do its children, and a core dump would hold the data.
            most = (limit + 1, limit + 1)
            options["_preexec_fn"] = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, most)
        try:
            process = self._children.start(argv, options)
        except BaseException:
            os.close(errors)
            raise
        finally:
            os.close(write_errors)
        stage = _Started(process, process.pid, errors)
        self._stages.append(stage)
        with contextlib.suppress(ProcessLookupError):
            stage.pidfd = os.pidfd_open(process.pid)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def finish(self, stop: Wakeup, seconds: float) -> Ended:
        """Wait until every stage has ended, `stop` is set or `seconds` have passed; then end what is left."""
        why = self._wait(stop, time.monotonic() + seconds)
        stages = list(self._stages)
        self.close()
        statuses = tuple(stage.status() for stage in stages)
        return Ended(why, statuses, tuple(stage.said() for stage in stages))

    def wait_for_output(self, pipe: int, stop: Wakeup) -> bool:
        """Wait, however long, until `pipe` can be read or is at its end; False when `stop` is set."""
        open_errors = {stage.stderr: stage for stage in self._stages}
        while pipe not in (ready := wait_for([pipe, stop, *open_errors], None)):
            if stop.fileno() in ready:
                return False
            for fd in ready:
                if not open_errors[fd].drain():
                    del open_errors[fd]
        return not stop.is_set()

    def has_ended(self) -> bool:
        """Tell whether any stage has."""
        return any(stage.has_ended() for stage in self._stages)

    def _wait(self, stop: Wakeup, deadline: float) -> Literal["exited", "timeout", "stopped"]:
        open_errors = {stage.stderr: stage for stage in self._stages}
        while alive := self._alive():
            ready = wait_for([*alive, *open_errors, stop], deadline - time.monotonic())
            if stop.fileno() in ready:
                return "stopped"
            if not ready:
                return "timeout"
            for fd in ready & open_errors.keys():
                if not open_errors[fd].drain():
                    del open_errors[fd]
            last = self._stages[-1]
            if last.has_ended() and last.status():
                # The refresh has failed: what the others still do can only delay the next attempt.
                return "exited"
        return "exited"

    def _alive(self) -> list[int]:
        return [stage.pidfd for stage in self._stages if stage.pidfd is not None and not stage.has_ended()]

    def close(self) -> None:
        """End every stage and its group: SIGTERM, `grace`, SIGKILL.

        What a stage left running in its group is killed too: it would go on writing to what is published.
        """
        if alive := self._alive():
            for stage in self._stages:
                terminate_group(stage.pid)
            deadline = time.monotonic() + self._grace
            while alive and (left := deadline - time.monotonic()) > 0:
                alive = [fd for fd in alive if fd not in wait_for(alive, left)]
        for stage in self._stages:
            kill_group(stage.pid)
        for stage in self._stages:
            stage.status()
            stage.drain()
            self._children.forget(stage.pid)
            os.close(stage.stderr)
            if stage.pidfd is not None:
                os.close(stage.pidfd)
        self._stages.clear()


def status_text(status: int) -> str:
    """exited with 5; killed by SIGKILL."""
    return f"exited with {status}" if status >= 0 else f"killed by {signal_name(-status)}"
