"""Run the stages of a pipeline, bound them, and end them with everything they started."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubectl_sidecar.children import Children, reap
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.shutdown import Wakeup, kill_group, signal_name, terminate_group, wait_for

STDERR_LIMIT = 8192
"""Bytes kept of what a stage writes to stderr: the last ones, where programs say why they ended."""
CUT = "…\n"
"""What stands for the others."""


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
        """Reap it; returns its exit status, or the negative number of the signal that killed it."""
        return reap(self.process)


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
