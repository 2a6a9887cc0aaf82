"""What is known of every task, and the files that tell it to probes, people and the app."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kubectl_sidecar.document import VERSION, pid_namespace, process_start, rfc3339
from kubectl_sidecar.publish import Staged

State = Literal["starting", "ok", "failing"]


@dataclass(slots=True)
class TaskStatus:
    """One task; times are seconds since the epoch, None until there is one."""

    output: str
    every: float
    watch: bool
    required: bool
    state: State = "starting"
    """starting: no attempt has ended; ok: the last one succeeded; failing: it did not."""
    last_attempt: float | None = None
    last_success: float | None = None
    last_change: float | None = None
    next_attempt: float | None = None
    failing_since: float | None = None
    failures: int = 0
    """Consecutive ones."""
    last_error: str | None = None
    bytes: int | None = None
    sha256: str | None = None


_TIMES = ("last_attempt", "last_success", "last_change", "next_attempt", "failing_since")


@dataclass(slots=True)
class Status:
    """The whole document."""

    started: float
    heartbeat: float
    tasks: Sequence[TaskStatus] = ()
    stuck: tuple[str, ...] = ()
    """Outputs with a refresh that does not end; also of tasks that a reload has taken away."""
    reload_error: str | None = None
    """What was wrong with the task files at the last reload, which was refused; None after a good one."""

    def shift(self, seconds: float) -> None:
        """Follow a clock that was set: what is 5 s old stays 5 s old."""
        self.started += seconds
        self.heartbeat += seconds
        for task in self.tasks:
            for name in _TIMES:
                if (time := getattr(task, name)) is not None:
                    setattr(task, name, time + seconds)

    def to_json(self, now: float, since_boot: float) -> str:
        """Write the document: times in RFC 3339, UTC, with milliseconds."""
        pid = os.getpid()
        document = {
            "version": VERSION,
            "time": rfc3339(now),
            "sinceBoot": round(since_boot, 3),
            "pid": pid,
            "pidNamespace": pid_namespace(),
            "processStart": process_start(pid),
            "started": rfc3339(self.started),
            "heartbeat": rfc3339(self.heartbeat),
            "stuck": list(self.stuck),
            "reloadError": self.reload_error,
            "tasks": [_task_to_json(task) for task in self.tasks],
        }
        return json.dumps(document, indent=1) + "\n"


def _task_to_json(task: TaskStatus) -> dict[str, Any]:
    fields = asdict(task)
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = rfc3339(fields[name])
    return {_camel(name): value for name, value in fields.items()}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))


class StatusFile:
    """Replaced as a whole, so that a reader always finds a complete document."""

    def __init__(self, path: str) -> None:
        """`path` is absolute."""
        self._path = path

    def write(self, text: str) -> None:
        """Raises RefreshFailed."""
        with Staged("/", self._path, 0o644) as staged:
            with open(staged.fd, "wb", closefd=False) as file:
                file.write(text.encode())
            staged.publish(durable=False)  # it tells of a process, which a crash of the node ends too
