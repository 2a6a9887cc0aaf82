"""Make the output of one task: run its pipeline, and publish what that wrote if all of it succeeded."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubectl_sidecar.errors import NotFound, RefreshFailed, Stopping
from kubectl_sidecar.kubectl.kubeconfig import DiscoveryCache
from kubectl_sidecar.kubectl.stderr import failure, is_stale_discovery, said
from kubectl_sidecar.process.pipeline import Ended, Launcher, Pipeline, Stop
from kubectl_sidecar.publish.directory import new_output
from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status.recorder import Recorder
from kubectl_sidecar.task import Settings, Stage, Task
from kubectl_sidecar.units import format_duration

# Bytes; more than a program writes at once.
_ROOM = 64 << 10


@dataclass(frozen=True, slots=True)
class Context:
    """What every task works with."""

    settings: Settings
    launcher: Launcher
    # Of every stage, and of a kubectl that watches.
    environment: Mapping[str, str]
    watch_environment: Mapping[str, str]
    cache: DiscoveryCache
    recorder: Recorder
    # Held while a whole line runs: each costs kubectl's 46 MB.
    slots: threading.Semaphore


class Refresher:
    """Makes the output of one task, in the thread of its worker."""

    def __init__(self, task: Task, context: Context, stop: Stop) -> None:
        self._task = task
        self._context = context
        self._stop = stop
        root = context.settings.output_dir
        self._output = new_output(root, task.output, task.mode, allow_empty=task.allow_empty)
        # The stages after a watched source, waiting for its next document.
        self._waiting: Pipeline | None = None

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.close()

    def run(self) -> Published:
        """Run the whole line, and publish; raises RefreshFailed, and the output is as it was, or Stopping."""
        with self._context.slots:
            self._context.cache.expire()
            with self._start(self._task.stages) as pipeline:
                try:
                    return self._publish(pipeline, pipeline.finish(self._task.timeout))
                except NotFound as error:
                    return self._missing(error)

    def feed(self, document: bytes) -> Published:
        """Give a document of the source to the other stages, and publish; raises as `run` does.

        An empty one: there is no such object.
        """
        assert self._task.watch is not None
        if not document:
            return self._missing(NotFound("the object does not exist"))
        ahead = self._task.watch.ahead
        # Stages that may be started ahead are small: only the others count as a running line.
        slot = contextlib.nullcontext() if ahead else self._context.slots
        with slot, self._take_waiting() as pipeline:
            published = self._publish(pipeline, pipeline.finish(self._task.timeout, document))
        if ahead:
            # So that the next change finds them waiting: it is in the file in 2 ms and not 18.
            with contextlib.suppress(RefreshFailed):
                self._waiting = self._start(self._task.stages[1:], fed=True)
        return published

    def probe(self) -> None:
        """Run the source alone, and throw its output away; raises RefreshFailed, NotFound and Stopping."""
        with self._context.slots, self._start(self._task.stages[:1]) as pipeline:
            check(pipeline.finish(self._task.timeout), self._task, self._context)

    def _take_waiting(self) -> Pipeline:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if waiting.is_waiting():
                return waiting
            waiting.close()
        return self._start(self._task.stages[1:], fed=True)

    def _start(self, stages: Sequence[Stage], *, fed: bool = False) -> Pipeline:
        return self._context.launcher.start(stages, self._context.environment, self._stop, fed=fed)

    def _missing(self, error: NotFound) -> Published:
        """Do what @on-missing says when the object does not exist; raises `error` for keep."""
        if self._task.on_missing == "keep":
            raise error
        return self._output.remove()

    def _publish(self, pipeline: Pipeline, ended: Ended) -> Published:
        """Publish what the stages wrote if all of them succeeded; raises RefreshFailed and Stopping."""
        size, limit = os.fstat(pipeline.output).st_size, self._context.launcher.file_limit()
        if size >= limit and ended.why != "stopped":
            most = self._context.settings.max_output
            whose = "--max-output" if limit > most else "the limit on file sizes, RLIMIT_FSIZE"
            raise RefreshFailed(f"wrote more than {min(most, limit - 1)} bytes ({whose})")
        check(ended, self._task, self._context)
        _check_room(pipeline.output, size)
        if not size and not self._task.allow_empty:
            text = "nothing was written, and an empty output is published with @allow-empty only"
            raise RefreshFailed(text + said(ended))
        return self._output.publish(pipeline.output)


def check(ended: Ended, task: Task, context: Context) -> None:
    """Raise RefreshFailed unless all stages of a task succeeded, and Stopping if they were stopped."""
    if ended.why == "stopped":
        raise Stopping
    if ended.why == "timeout":
        raise RefreshFailed(timed_out(task) + said(ended))
    if ended.failed():
        if any(map(is_stale_discovery, ended.stderrs)):
            context.cache.drop()
        raise failure(ended)


def timed_out(task: Task) -> str:
    """Say that something of a task has taken too long."""
    return f"timed out after {format_duration(task.timeout)} (@timeout, --timeout)"


def _check_room(output: int, size: int) -> None:
    """Raise RefreshFailed when the file can take no more, which kubectl may overlook (kubernetes#141115).

    Where the kernel has no memory files, it is a file in a private directory, which may be full.
    """
    try:
        os.posix_fallocate(output, size, _ROOM)
        os.ftruncate(output, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RefreshFailed("no space left for what the stages write, in memory or in /tmp") from error
