"""One refresh: run the pipeline of a task, and publish what it wrote if all of it succeeded."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from kubectl_sidecar.children import Children
from kubectl_sidecar.commands import Ended, Running
from kubectl_sidecar.diagnosis import failed_stages, is_not_found, one_line, reason
from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.errors import NotFound, RefreshFailed
from kubectl_sidecar.kube import watch_environment
from kubectl_sidecar.publish import Published, Staged, remove
from kubectl_sidecar.shutdown import Stopping, Wakeup, wait_for
from kubectl_sidecar.tasks import Task
from kubectl_sidecar.watch import Listener, Watch
from kubectl_sidecar.watching import Watching


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds refreshes beside their own timeouts."""

    grace: float = 2.0
    """Seconds between SIGTERM and SIGKILL."""
    max_output: int = 16 << 20
    """Bytes."""
    concurrency: int = 2
    """Pipelines at once: each costs kubectl's 46 MB."""


class Document:
    """What a source wrote, kept in memory for the tasks that share it until the last lets go of it."""

    def __init__(self) -> None:
        self.file: BinaryIO = os.fdopen(os.memfd_create("document", os.MFD_CLOEXEC), "wb+", buffering=0)
        self.took = 0.0
        """Seconds that it took to fetch."""

    def __del__(self) -> None:
        self.file.close()

    @classmethod
    def of(cls, content: bytes) -> Document:
        document = cls()
        document.file.write(content)
        return document

    def open(self) -> BinaryIO:
        """Open it once more, to be read from its start."""
        return open(f"/proc/self/fd/{self.file.fileno()}", "rb", buffering=0)

    def copy_to(self, stdout: int, limit: int) -> None:
        """Write it as it is; raises RefreshFailed when it is larger than `limit` bytes."""
        size = os.fstat(self.file.fileno()).st_size
        if size > limit:
            raise _too_large(limit)
        offset = 0
        while offset < size:
            offset += os.sendfile(stdout, self.file.fileno(), offset, size - offset)


class Slots:
    """A semaphore whose wait ends with the program, and that knows when a holder is stuck."""

    # Beyond what bounds a refresh itself: a hung file system is the only thing left.
    _STUCK_AFTER = 60.0

    def __init__(self, count: int) -> None:
        self._free = os.eventfd(count, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self._deadlines: dict[str, float] = {}

    @contextlib.contextmanager
    def held(self, holder: str, stop: Wakeup, seconds: float) -> Iterator[None]:
        """Hold one of the slots, for about `seconds` at most; raises Stopping when `stop` is set before."""
        self._take(stop)
        try:
            with self.timed(holder, seconds):
                yield
        finally:
            os.eventfd_write(self._free, 1)

    @contextlib.contextmanager
    def timed(self, holder: str, seconds: float) -> Iterator[None]:
        """Hold none, and still be known to take about `seconds` at most."""
        self._deadlines[holder] = time.monotonic() + seconds + self._STUCK_AFTER
        try:
            yield
        finally:
            del self._deadlines[holder]

    def _take(self, stop: Wakeup) -> None:
        while stop.fileno() not in wait_for([self._free, stop], None):
            with contextlib.suppress(BlockingIOError):  # another thread was faster
                os.eventfd_read(self._free)
                return
        raise Stopping

    def stuck(self) -> tuple[str, ...]:
        """Return the holders that are far past their time."""
        now = time.monotonic()
        return tuple(holder for holder, deadline in list(self._deadlines.items()) if deadline < now)


class Refresher:
    """Runs refreshes for any number of threads, `Limits.concurrency` of them at once."""

    def __init__(self, root: str, environment: Mapping[str, str], children: Children, limits: Limits) -> None:
        self._root = root
        self._environment = environment
        self._children = children
        self._limits = limits
        self.slots = Slots(limits.concurrency)

    def refresh(
        self, task: Task, stop: Wakeup, source: Callable[[], Document | None] = lambda: None
    ) -> Published:
        """Run all stages, or those after the source on the document that `source` returns, and publish.

        Raises RefreshFailed, and the output is as it was. Raises Stopping when `stop` is set.
        """
        # A shared source may take the timeout once more, in the hands of another task.
        longest = 2 * (task.timeout + self._limits.grace)
        with (
            self.slots.held(task.output, stop, longest),
            Staged(self._root, task.output, task.mode) as staged,
        ):
            try:
                self._write(task, stop, source(), staged.fd)
            except NotFound as error:
                return self.missing(task, error)
            return publish(staged)

    def missing(self, task: Task, error: NotFound) -> Published:
        """Do what @on-missing says when the object does not exist; raises `error` for keep."""
        if task.on_missing == "keep":
            raise error
        return Published(remove(self._root, task.output), None, None)

    def stage(self, task: Task) -> Staged:
        """Make the staged file of a task; raises RefreshFailed."""
        return Staged(self._root, task.output, task.mode)

    def start_rest(self, task: Task, stdin: int, stdout: int) -> Running:
        """Start the stages after the source; raises RefreshFailed."""
        return self._start([stage.argv for stage in task.stages[1:]], stdin, stdout, self._limits.max_output)

    def check_rest(self, task: Task, ended: Ended, stdout: int) -> None:
        """Raise RefreshFailed unless all that start_rest() started succeeded; Stopping if it was stopped."""
        argvs = [stage.argv for stage in task.stages[1:]]
        _check(argvs, ended, task.timeout, stdout, self._limits.max_output)

    def watch(self, watching: Watching, listener: Listener) -> Watch:
        """Start to watch."""
        environment = watch_environment(self._environment)
        return Watch(
            watching.argvs,
            lambda stdout: self._start(watching.argvs, None, stdout, None, environment=environment),
            listener,
        )

    def fetch(self, task: Task, stop: Wakeup) -> Document:
        """Run the source of a task alone; raises as refresh() does, and NotFound."""
        document, started = Document(), time.monotonic()
        self._run([task.stages[0].argv], None, document.file.fileno(), task.timeout, stop, limit=None)
        document.took = time.monotonic() - started
        return document

    def _write(self, task: Task, stop: Wakeup, document: Document | None, stdout: int) -> None:
        argvs = [stage.argv for stage in task.stages]
        limit = self._limits.max_output
        if document is None:
            self._run(argvs, None, stdout, task.timeout, stop, limit)
        elif rest := argvs[1:]:
            with document.open() as stdin:
                self._run(rest, stdin.fileno(), stdout, max(task.timeout - document.took, 0), stop, limit)
        else:
            document.copy_to(stdout, limit)

    def _run(
        self,
        argvs: Sequence[Sequence[str]],
        stdin: int | None,
        stdout: int,
        timeout: float,
        stop: Wakeup,
        limit: int | None,
    ) -> None:
        with self._start(argvs, stdin, stdout, limit) as stages:
            ended = stages.finish(stop, timeout)
        _check(argvs, ended, timeout, stdout, limit)

    def _start(
        self,
        argvs: Sequence[Sequence[str]],
        stdin: int | None,
        stdout: int,
        limit: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        return Running(
            self._children,
            argvs,
            environment or self._environment,
            stdin=stdin,
            stdout=stdout,
            max_output=limit,
            grace=self._limits.grace,
        )


def publish(staged: Staged) -> Published:
    """Publish what the stages wrote, if they wrote anything; raises RefreshFailed."""
    if staged.size() == 0:
        raise RefreshFailed("nothing was written, and an empty output is never published")
    return staged.publish()


def _check(
    argvs: Sequence[Sequence[str]], ended: Ended, timeout: float, stdout: int, limit: int | None
) -> None:
    if ended.why == "stopped":
        raise Stopping
    if limit is not None and os.fstat(stdout).st_size > limit:
        raise _too_large(limit)
    if ended.why == "timeout":
        said = "".join(f": {text}" for text in map(one_line, ended.stderrs) if text)
        raise RefreshFailed(f"timed out after {format_duration(timeout)} (@timeout, --timeout){said}")
    if failed := failed_stages(ended):
        missing = 0 in failed and is_not_found(argvs[0], ended.stderrs[0])
        raise (NotFound if missing else RefreshFailed)(reason(argvs, ended))


def _too_large(limit: int) -> RefreshFailed:
    return RefreshFailed(f"wrote more than {limit} bytes (--max-output)")
