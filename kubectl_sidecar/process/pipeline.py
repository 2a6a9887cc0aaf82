"""Start pipelines, bound them, and end them with everything that they started."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import resource
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubectl_sidecar.errors import RefreshFailed, Stopping
from kubectl_sidecar.process import signals
from kubectl_sidecar.task import Stage


def _no_event_loop() -> None:
    raise RuntimeError("no running event loop")


# sh needs these two for `await` and for its `__version__` only, and they cost 6.6 MB in every Pod. Once it is
# imported, each of them can be imported as ever.
_UNUSED_BY_SH: dict[str, Any] = {
    "asyncio": types.SimpleNamespace(Queue=object, get_running_loop=_no_event_loop),
    "importlib.metadata": types.SimpleNamespace(version=lambda _: "2.4"),
}
_replaced = _UNUSED_BY_SH.keys() - sys.modules.keys()
sys.modules.update({name: _UNUSED_BY_SH[name] for name in _replaced})
import sh  # noqa: E402

for _name in _replaced:
    del sys.modules[_name]

# Facts about sh 2.4 behind the options: _bg=True, and not 1, makes the program ignore SIGHUP; without
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
    "_log_msg": lambda _ran, _call_args, pid=None: f"pid {pid}",
}

STDERR_LIMIT = 8192  # bytes kept of each stage's stderr: the last ones, where programs say why they ended
CUT = "…\n"  # stands for the bytes before them

Why = Literal["exited", "timeout", "stopped"]
Argvs = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the stages of a pipeline ended, in their order."""

    argvs: Argvs = field(repr=False)
    why: Why
    statuses: tuple[int, ...]  # exit statuses; a negative one is the signal that killed the stage
    stderrs: tuple[str, ...]  # what was kept, in whole lines; empty where stderr was thrown away

    def failed(self) -> list[int]:
        """Return the positions of the stages whose exit status makes the refresh fail; empty: none does.

        SIGPIPE of an earlier stage is fine when the last one succeeded (`… | head -1`). When the last one
        failed, what died of SIGPIPE, or was ended because of that, is not the cause.
        """
        last = len(self.statuses) - 1
        innocent = {0, -signals.SIGPIPE, 128 + signals.SIGPIPE}
        if self.statuses[last]:
            innocent.add(-signals.SIGTERM)
        return [
            i for i, status in enumerate(self.statuses) if status and (i == last or status not in innocent)
        ]


def status_text(status: int) -> str:
    """exited with 5; killed by SIGKILL."""
    return f"exited with {status}" if status >= 0 else f"killed by {signals.signal_name(-status)}"


class Stop(threading.Event):
    """Tells threads to stop, and ends the pipelines that they have running. Any thread may set it."""

    def __init__(self) -> None:
        super().__init__()
        # Each ends something that runs, or a sleep, and returns at once.
        self.ends: set[Callable[[], None]] = set()

    def set(self) -> None:
        """End the pipelines that run; none is started any more."""
        super().set()
        for end in tuple(self.ends):
            end()

    def check(self) -> None:
        """Raise Stopping when it is set."""
        if self.is_set():
            raise Stopping

    def sleep(self, seconds: float | None, wake: threading.Event) -> bool:
        """Wait `seconds`, None: for ever, or until `wake` is set; clear it, and tell whether it was.

        Raises Stopping, without delay, when this is set.
        """
        self.ends.add(wake.set)
        woken = self.is_set() or wake.wait(seconds)
        self.check()
        wake.clear()
        return woken


@dataclass(eq=False)
class Pipeline:
    """The running stages of `argv | argv | …`, each the leader of its own process group.

    Use it as a context manager: whatever happens in the block, no process outlives it.
    """

    launcher: Launcher
    stages: Sequence[Stage]
    stop: Stop
    processes: list[Any] = field(default_factory=list)  # what sh has started, in the order of the stages
    stderrs: list[int] = field(default_factory=list)  # the file of each stage's stderr
    files: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # what is open as long as it is
    output: int = -1  # the file that the last stage writes; -1: it writes elsewhere
    stdin: io.FileIO | None = None  # what feeds the first stage
    _why: Why | None = None  # why it ends, or has ended; None: it runs
    _over: threading.Event = field(default_factory=threading.Event)
    # Held while groups are signalled: when it is over none is, because others may have their numbers.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep(self, fd: int) -> int:
        """Close a file when the pipeline is closed."""
        self.files.callback(os.close, fd)
        return fd

    def end(self, why: Why = "stopped") -> None:
        """Send SIGTERM to each group now and SIGKILL after the grace. Any thread may; returns at once."""
        with self._lock:
            if self._why is None:
                self._why = why
                self._signal(signals.SIGTERM)
                try:
                    self.after(self.launcher.grace, self._signal, signals.SIGKILL)
                except RefreshFailed:
                    self._signal(signals.SIGKILL)

    def after(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        """Call `action` after that time, unless it is over by then; raises RefreshFailed without a thread."""

        def act() -> None:
            if not self._over.wait(min(seconds, threading.TIMEOUT_MAX)):
                action(*arguments)

        with _refused("the timeout cannot be set"):
            threading.Thread(target=act, daemon=True).start()

    def _signal(self, number: int) -> None:
        with self._lock:
            for process in [] if self._over.is_set() else self.processes:
                signals.signal_group(process.pid, number)

    def is_waiting(self) -> bool:
        """Tell whether all stages still run."""
        return all(process.is_alive() for process in self.processes)

    def finish(self, timeout: float, document: bytes = b"") -> Ended:
        """Feed it the document, and wait until it has ended, for `timeout` seconds at most."""
        self.after(timeout, self.end, "timeout")
        if self.stdin is not None:
            # A stage need not read to the end, and the timeout ends one that does not read at all.
            with self.stdin, contextlib.suppress(BrokenPipeError):
                while document:
                    document = document[self.stdin.write(document) :]
        return self.wait()

    def wait(self) -> Ended:
        """Wait until every stage has ended, kill what they left running, and return how they ended."""
        if self.processes and _reap(self.processes[-1]):
            # The refresh has failed: what the others still do can only delay the next attempt.
            self.end("exited")
        statuses = tuple(map(_reap, self.processes))
        with self._lock:
            self._signal(signals.SIGKILL)
            self._over.set()
            why = self._why = self._why or "exited"
        self.launcher.groups.running.difference_update(process.pid for process in self.processes)
        self.stop.ends.discard(self.end)
        argvs = tuple(stage.argv for stage in self.stages)
        return Ended(argvs, why, statuses, tuple(map(_last_lines, self.stderrs)))

    def close(self) -> None:
        """End what still runs, wait until it has ended, and close its files."""
        if not self._over.is_set():
            self.end()
            self.wait()
        self.files.close()


def _pipe(owner: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        owner.callback(os.close, end)
    return ends


def _reap(process: Any) -> int:  # noqa: ANN401 (sh has no types)
    # sh has the status before it starts a thread to watch its others; there may be too many threads.
    with contextlib.suppress(RuntimeError):
        process.wait()
    return int(process.process.exit_code)


def _last_lines(stderr: int) -> str:
    """Return the end of what a stage wrote, in whole lines: part of one may be data that nothing marks so."""
    size = os.fstat(stderr).st_size
    text = os.pread(stderr, STDERR_LIMIT, max(0, size - STDERR_LIMIT)).decode(errors="replace")
    return CUT + text.partition("\n")[2] if size > STDERR_LIMIT else text


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """Turn what the system refuses into a failed refresh."""
    try:
        yield
    except (sh.ForkException, OSError, RuntimeError) as error:
        # A ForkException is the child's traceback, which ends in "[Errno 8] Exec format error: b'/x'".
        last_line = str(error).strip().rpartition("\n")[2]
        reason = re.sub(r"^\s*\w+Error: |\[Errno \d+\] |: b'.*", "", last_line)
        raise RefreshFailed(f"{what}: {reason}") from error


@dataclass(frozen=True, slots=True)
class Launcher:
    """How stages are started, for every thread."""

    groups: signals.Groups
    grace: float = 0.0  # seconds between SIGTERM and SIGKILL
    max_output: int = 1 << 20  # bytes that a pipeline may write
    directory: str | None = None  # a private one, for memory files where the kernel has none

    def run(
        self, argvs: Argvs, environment: Mapping[str, str], stop: Stop, timeout: float
    ) -> tuple[Ended, bytes]:
        """Run a pipeline for `timeout` seconds at most; return its end and its output. Raises as start()."""
        with self.start([Stage(tuple(argv)) for argv in argvs], environment, stop) as pipeline:
            ended = pipeline.finish(timeout)
            return ended, os.pread(pipeline.output, os.fstat(pipeline.output).st_size, 0)

    def start(
        self,
        stages: Sequence[Stage],
        environment: Mapping[str, str],
        stop: Stop,
        *,
        stdout: int | None = None,
        fed: bool = False,
    ) -> Pipeline:
        """Start a pipeline.

        The last stage writes to `stdout`, or to a file of the pipeline's own. The first one reads what
        `finish` is given if it is `fed`, else nothing. Raises RefreshFailed when they cannot be started, and
        Stopping when `stop` is set.
        """
        stop.check()
        pipeline = Pipeline(self, stages, stop)
        try:
            # What is ours is closed when all are started: end of file and SIGPIPE must reach the stages.
            with _refused("the pipeline cannot be started"), contextlib.ExitStack() as ours:
                source = ours.enter_context(open(os.devnull, "rb", buffering=0)).fileno()
                if fed:
                    source, feeding = _pipe(ours)
                    pipeline.stdin = pipeline.files.enter_context(open(os.dup(feeding), "wb", buffering=0))
                if stdout is None:
                    stdout = pipeline.output = pipeline.keep(self.memory_file("output"))
                for number, stage in enumerate(stages, 1):
                    following, sink = _pipe(ours) if number < len(stages) else (-1, stdout)
                    pipeline.stderrs.append(pipeline.keep(self._stderr_file(quiet=stage.quiet)))
                    files = {"_in": source, "_out": sink, "_err": pipeline.stderrs[-1]}
                    pipeline.processes.append(self._start_stage(stage.argv, _env=environment, **files))
                    source = following
            stop.ends.add(pipeline.end)
            stop.check()
        except BaseException:
            pipeline.close()
            raise
        return pipeline

    def _start_stage(self, argv: Sequence[str], **options: Any) -> Any:  # noqa: ANN401
        limit = self.file_limit()

        def prepare() -> None:
            signals.unblock()
            # The write that would pass the limit fails. It does not kill: Python ignores SIGXFSZ, so do its
            # children, and a core dump would hold the data.
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        try:
            with _refused(f"{argv[0]}: cannot be started"), self.groups.starting():
                process = sh.Command(argv[0])(*argv[1:], **_START, **options, _preexec_fn=prepare)
                self.groups.running.add(process.pid)
                return process
        except sh.CommandNotFound as error:
            raise RefreshFailed(f"{argv[0]}: no such program on PATH") from error

    def file_limit(self) -> int:
        """Return the bytes that a stage can write to a file: one more tells "too large" from "just fits"."""
        # Our own copy of what it wrote is bound by the present limit as well.
        present, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = self.max_output + 1
        return limit if present == resource.RLIM_INFINITY else min(limit, present)

    def _stderr_file(self, *, quiet: bool) -> int:
        fd = os.open(os.devnull, os.O_RDWR) if quiet else self.memory_file("stderr")
        # A program may open its stderr once more, by name: none must overwrite what another one said.
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return fd

    def memory_file(self, name: str) -> int:
        """Return a new file that no directory lists; raises RefreshFailed naming the call that is refused."""
        with _refused("memfd_create"):
            try:
                return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            except OSError:
                if self.directory is None:
                    raise
        path = f"{self.directory}/{name}-{os.urandom(8).hex()}"
        with _refused("memfd_create is refused, and instead of it"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.unlink(path)
            return fd
