"""What happens to the tasks, as log lines and as the status document."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from kubectl_sidecar.document import HEARTBEAT, moment, rfc3339
from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish import Published
from kubectl_sidecar.status import Status, StatusFile, TaskStatus
from kubectl_sidecar.tasks import Task

log = logging.getLogger("kubectl_sidecar")

# The clock is slewed by less between two looks; more means that it was set.
_STEP = 1.0


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
        text += f" {task}: " if task else " "
        return text + " / ".join(line.strip() for line in event["message"].splitlines())


def set_up_logging(style: str) -> None:
    """Write log lines to stderr, as text or as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(style))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class Journal:
    """Told of every finished attempt, by any thread; nothing in it is output, it may be a Secret."""

    def __init__(self, paths: Sequence[str], clock: Callable[[], tuple[float, float]] = moment) -> None:
        """The document is written to each of the absolute `paths`."""
        self._files = {path: StatusFile(path) for path in paths}
        self._unwritable: set[str] = set()
        self._lock = threading.Lock()
        self._clock = clock
        self._wall, self._since_boot = clock()
        self._status = Status(started=self._wall, heartbeat=self._wall)
        self._tasks: dict[Task, TaskStatus] = {}

    def take_over(self, tasks: Iterable[Task]) -> None:
        """Begin with these tasks, or go on with them: what is known of unchanged ones stays."""
        with self._lock:
            self._now()
            self._tasks = {
                task: self._tasks.get(task) or TaskStatus(task.output, task.every, task.watch, task.required)
                for task in tasks
            }
            self._status.tasks = tuple(self._tasks.values())
            self._status.reload_error = None
            self._write()

    def refused(self, error: str) -> None:
        """Note that a reload was refused."""
        with self._lock:
            self._now()
            self._status.reload_error = error
            self._write()

    def beat(self, stuck: tuple[str, ...] = ()) -> None:
        """Show that the supervisor makes progress, and the outputs whose refreshes do not."""
        with self._lock:
            now = self._now()
            # The supervisor looks around whenever a child ends as well.
            if stuck == self._status.stuck and abs(now - self._status.heartbeat) < HEARTBEAT / 2:
                return
            for output in set(stuck).difference(self._status.stuck):
                log.error(
                    "stuck: the refresh is long past its timeout; does a file system hang?",
                    extra={"task": output},
                )
            self._status.heartbeat, self._status.stuck = now, stuck
            self._write()

    def succeeded(self, finished: Task, published: Published, next_in: float) -> None:
        """Note a success; the next attempt is in `next_in` seconds."""
        with self._lock:
            now = self._now()
            if (task := self._tasks.get(finished)) is None:
                return  # a reload has taken it away
            self._log_success(task, published, now)
            task.last_attempt = task.last_success = now
            if published.changed:
                task.last_change = now
            task.state, task.failures, task.failing_since, task.last_error = "ok", 0, None, None
            task.bytes, task.sha256 = published.size, published.sha256
            task.next_attempt = now + next_in
            self._write()

    def failed(self, finished: Task, reason: str, next_in: float | None) -> None:
        """Note a failure; None: there will be no further attempt."""
        with self._lock:
            now = self._now()
            if (task := self._tasks.get(finished)) is None:
                return
            task.state, task.last_attempt, task.last_error = "failing", now, reason
            task.failures += 1
            task.failing_since = task.failing_since or now
            task.next_attempt = None if next_in is None else now + next_in
            self._log_failure(task, now - task.failing_since, next_in)
            self._write()

    def _log_success(self, task: TaskStatus, published: Published, now: float) -> None:
        content = (
            "removed: the object does not exist" if published.size is None else f"{published.size} bytes"
        )
        if task.failing_since is not None:
            since = format_duration(round(now - task.failing_since, 1))
            self._log(task, logging.INFO, f"recovered after {task.failures} failures in {since}: {content}")
        elif task.last_success is None:
            self._log(task, logging.INFO, f"first success: {content}")
        elif published.changed:
            self._log(task, logging.INFO, f"changed: {content}")

    def _log_failure(self, task: TaskStatus, since: float, next_in: float | None) -> None:
        if task.failures & (task.failures - 1) and next_in is not None:
            return  # the 1st, 2nd, 4th, 8th ... are logged, and the last one
        count = f" ({task.failures} times in {format_duration(round(since, 1))})" if task.failures > 1 else ""
        then = "giving up" if next_in is None else f"next attempt in {format_duration(round(next_in, 1))}"
        self._log(task, logging.WARNING, f"failed{count}: {task.last_error}; {then}")

    def _log(self, task: TaskStatus, level: int, message: str) -> None:
        log.log(level, message, extra={"task": task.output})

    def _now(self) -> float:
        """Look at the clock, and follow it when it was set: all times in a document are of one clock."""
        wall, since_boot = self._clock()
        step = (wall - self._wall) - (since_boot - self._since_boot)
        if abs(step) > _STEP:
            log.info("the clock was set by %+.0f s", step)
            self._status.shift(step)
        self._wall, self._since_boot = wall, since_boot
        return wall

    def _write(self) -> None:
        text = self._status.to_json(self._wall, self._since_boot)
        for path, file in self._files.items():
            try:
                file.write(text)
                self._unwritable.discard(path)
            except RefreshFailed as error:
                if path not in self._unwritable:  # once: the outputs do not depend on it
                    log.warning("no status file: %s", error)
                self._unwritable.add(path)
