"""The stages after a source, started before there is a document, so that a change finds them waiting."""

from __future__ import annotations

import contextlib
import os
import threading

from kubectl_sidecar.errors import NotFound, RefreshFailed
from kubectl_sidecar.publish import Published
from kubectl_sidecar.refresh import Document, Refresher, publish
from kubectl_sidecar.shutdown import Wakeup
from kubectl_sidecar.tasks import Task


class Ahead:
    """One run of them, waiting: each run is a fresh one, and takes one document."""

    def __init__(self, refresher: Refresher, task: Task) -> None:
        """Raises RefreshFailed."""
        self._refresher = refresher
        self._task = task
        with contextlib.ExitStack() as undo:
            self._staged = undo.enter_context(refresher.stage(task))
            read, self._stdin = os.pipe2(os.O_CLOEXEC)
            undo.callback(self._end_of_input)
            try:
                self._stages = undo.enter_context(refresher.start_rest(task, read, self._staged.fd))
            finally:
                os.close(read)
            self._undo = undo.pop_all()

    def _end_of_input(self) -> None:
        fd, self._stdin = self._stdin, -1
        if fd != -1:
            os.close(fd)

    def close(self) -> None:
        """End what still runs."""
        self._undo.close()

    def is_fit(self) -> bool:
        """Tell whether it still waits, and its output would go to where it belongs."""
        return not self._stages.has_ended() and self._staged.is_in_place()

    def refresh(self, document: bytes, stop: Wakeup) -> Published:
        """Give it its document and publish what it makes of it; raises RefreshFailed and Stopping."""
        writer = self._write(document)
        ended = self._stages.finish(stop, self._task.timeout)
        if writer is not None:
            writer.join()
        self._refresher.check_rest(self._task, ended, self._staged.fd)
        return publish(self._staged)

    def _write(self, document: bytes) -> threading.Thread | None:
        """Write as much as the pipe takes at once, the rest in a thread: a stage need not read to the end."""
        os.set_blocking(self._stdin, False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            document = document[os.write(self._stdin, document) :]
        if not document:
            self._end_of_input()
            return None
        writer = threading.Thread(target=self._write_rest, args=[document], daemon=True)
        writer.start()
        return writer

    def _write_rest(self, document: bytes) -> None:
        os.set_blocking(self._stdin, True)
        # Nobody reads any more once the stages have ended, so this comes to its end with them.
        with contextlib.suppress(BrokenPipeError):
            while document:
                document = document[os.write(self._stdin, document) :]
        self._end_of_input()


class Feeder:
    """Makes the output of one task from documents."""

    def __init__(self, refresher: Refresher, task: Task, *, ahead: bool) -> None:
        """`ahead`: its stages may be started before there is a document."""
        self._refresher = refresher
        self._task = task
        self._may_start_ahead = ahead
        self._ready: Ahead | None = None

    def refresh(self, document: bytes | None, stop: Wakeup) -> Published:
        """Raises RefreshFailed, also for no document, as @on-missing says, and Stopping."""
        if document is None:
            return self._refresher.missing(self._task, NotFound("the object does not exist"))
        if not self._may_start_ahead:
            return self._refresher.refresh(self._task, stop, lambda: Document.of(document))
        with self._refresher.slots.timed(self._task.output, self._task.timeout):
            with contextlib.closing(self._take()) as ahead:
                published = ahead.refresh(document, stop)
            with contextlib.suppress(RefreshFailed):  # the next refresh will say so
                self._ready = Ahead(self._refresher, self._task)
            return published

    def _take(self) -> Ahead:
        ready, self._ready = self._ready, None
        if ready is not None:
            if ready.is_fit():
                return ready
            ready.close()
        return Ahead(self._refresher, self._task)

    def close(self) -> None:
        """End what waits."""
        if self._ready is not None:
            self._ready.close()
