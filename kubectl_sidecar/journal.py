"""What happens to the tasks, as log lines and as the status file."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable

from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish import Published
from kubectl_sidecar.status import Status, StatusFile, TaskStatus, process_start, rfc3339, to_json
from kubectl_sidecar.tasks import Task

log = logging.getLogger("kubectl_sidecar")


class _Formatter(logging.Formatter):
    """One line an event, whatever is in it; RFC 3339 times."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._style_name = style

    def format(self, record: logging.LogRecord) -> str:
        event = {"time": rfc3339(record.created), "level": record.levelname.lower()}
        if task := getattr(record, "task", None):
            event["task"] = task
        event["message"] = record.getMessage()
        if self._style_name == "json":
            return json.dumps(event)
        text = " ".join(event[key] for key in ("time", "level")).replace("warning", "warn")
        return f"{text} {event['task']}: {event['message']}" if task else f"{text} {event['message']}"


def set_up_logging(style: str) -> None:
    """Write log lines to stderr, as text or as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(style))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class Journal:
    """Told of every finished attempt, by any thread; nothing in it is output, it may be a Secret."""

    def __init__(self, file: StatusFile | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._started = time.time()
        self._tasks: dict[Task, TaskStatus] = {}
        self._failing_since: dict[str, float] = {}
        self._reload_error: str | None = None
        self._unwritable = False

    def take_over(self, tasks: Iterable[Task]) -> None:
        """Begin with these tasks, or go on with them after a reload: what is known of unchanged ones stays."""
        with self._lock:
            self._tasks = {
                task: self._tasks.get(task) or TaskStatus(task.output, task.every, task.watch, task.required)
                for task in tasks
            }
            self._reload_error = None
            self._write()

    def refused(self, error: str) -> None:
        """Note that a reload was refused."""
        with self._lock:
            self._reload_error = error
            self._write()

    def succeeded(self, finished: Task, published: Published, next_in: float) -> None:
        """Note a success; the next attempt is in `next_in` seconds."""
        with self._lock:
            if (task := self._tasks.get(finished)) is None:
                return  # a reload has taken it away
            now = time.time()
            self._log_success(task, published, now)
            task.last_attempt = task.last_success = now
            if published.changed:
                task.last_change = now
            task.state, task.failures, task.last_error = "ok", 0, None
            task.bytes, task.sha256 = published.size, published.sha256
            task.next_attempt = now + next_in
            self._write()

    def failed(self, finished: Task, reason: str, next_in: float | None) -> None:
        """Note a failure; None: there will be no further attempt."""
        with self._lock:
            if (task := self._tasks.get(finished)) is None:
                return
            now = time.time()
            task.state, task.last_attempt, task.last_error = "failing", now, reason
            task.failures += 1
            task.next_attempt = None if next_in is None else now + next_in
            self._log_failure(task, now, next_in)
            self._write()

    def _log_success(self, task: TaskStatus, published: Published, now: float) -> None:
        content = "removed: the object does not exist" if published.size is None else f"{published.size} bytes"
        if task.failures:
            since = format_duration(round(now - self._failing_since.pop(task.output), 1))
            self._log(task, logging.INFO, f"recovered after {task.failures} failures in {since}: {content}")
        elif task.last_success is None:
            self._log(task, logging.INFO, f"first success: {content}")
        elif published.changed:
            self._log(task, logging.INFO, f"changed: {content}")

    def _log_failure(self, task: TaskStatus, now: float, next_in: float | None) -> None:
        since = self._failing_since.setdefault(task.output, now)
        if task.failures & (task.failures - 1) and next_in is not None:
            return  # the 1st, 2nd, 4th, 8th ... are logged, and the last one
        count = f" ({task.failures} times in {format_duration(round(now - since, 1))})" if task.failures > 1 else ""
        then = "giving up" if next_in is None else f"next attempt in {format_duration(round(next_in, 1))}"
        self._log(task, logging.WARNING, f"failed{count}: {task.last_error}; {then}")

    def _log(self, task: TaskStatus, level: int, message: str) -> None:
        log.log(level, message, extra={"task": task.output})

    def touch(self) -> None:
        """Show that the supervisor makes progress."""
        if self._file is not None:
            self._file.touch()

    def _write(self) -> None:
        if self._file is None:
            return
        pid = os.getpid()
        status = Status(
            pid, process_start(pid) or 0, self._started, tuple(self._tasks.values()), self._reload_error
        )
        try:
            self._file.write(to_json(status, time.time()))
            self._unwritable = False
        except RefreshFailed as error:
            if not self._unwritable:  # once: the outputs do not depend on it
                log.warning("no status file: %s", error)
            self._unwritable = True
