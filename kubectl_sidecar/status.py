"""What is known of every task, and the status file that tells it to probes, people and the app."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from kubectl_sidecar.publish import Staged

VERSION = 1
HEARTBEAT = 10.0
"""Seconds between the supervisor's signs of life: the modification time of the status file."""

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
    failures: int = 0
    """Consecutive ones."""
    last_error: str | None = None
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The whole document."""

    pid: int
    process_start: int
    """Clock ticks between boot and the start of the process (proc(5), field 22 of stat): with the PID it names one."""
    started: float
    tasks: tuple[TaskStatus, ...]
    reload_error: str | None = None
    """What was wrong with the task files at the last reload, which was refused; None after a good one."""
    heartbeat: float = 0.0
    """When the supervisor was last seen to make progress; not in the document, but the time of the file."""


def rfc3339(seconds: float) -> str:
    """2026-11-23T08:00:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def process_start(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None: there is no such process, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the program's name may hold blanks and parentheses
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


_TIMES = ("last_attempt", "last_success", "last_change", "next_attempt")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))


def to_json(status: Status, now: float) -> str:
    """Write the document: times in RFC 3339, UTC, with milliseconds."""
    document = {
        "version": VERSION,
        "time": rfc3339(now),
        "pid": status.pid,
        "processStart": status.process_start,
        "started": rfc3339(status.started),
        "reloadError": status.reload_error,
        "tasks": [_task_to_json(task) for task in status.tasks],
    }
    return json.dumps(document, indent=1) + "\n"


def _task_to_json(task: TaskStatus) -> dict[str, Any]:
    fields = asdict(task)
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = rfc3339(fields[name])
    return {_camel(name): value for name, value in fields.items()}


def from_json(text: str, heartbeat: float) -> Status:
    """Read the document; raises ValueError or KeyError when it is not one of ours."""
    document = json.loads(text)
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']} instead of {VERSION}")
    return Status(
        pid=document["pid"],
        process_start=document["processStart"],
        started=from_rfc3339(document["started"]),
        tasks=tuple(map(_task_from_json, document["tasks"])),
        reload_error=document["reloadError"],
        heartbeat=heartbeat,
    )


def _task_from_json(document: Mapping[str, Any]) -> TaskStatus:
    fields = {name: document[_camel(name)] for name in TaskStatus.__slots__}
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = from_rfc3339(fields[name])
    return TaskStatus(**fields)


class StatusFile:
    """Replaced as a whole, so that a reader always finds a complete document."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, text: str) -> None:
        """Raises RefreshFailed."""
        with Staged(os.path.dirname(self._path) or ".", os.path.basename(self._path), 0o644) as staged:
            with open(staged.fd, "wb", closefd=False) as file:
                file.write(text.encode())
            staged.publish(durable=False)  # it tells of a process, which a crash of the node ends too

    def touch(self) -> None:
        """Show that the supervisor makes progress."""
        with contextlib.suppress(OSError):
            os.utime(self._path)


def read(paths: Iterable[str]) -> Status | None:
    """Read the first status file that is there; None: there is none. Raises as from_json does."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), open(path, encoding="utf-8") as file:
            return from_json(file.read(), os.fstat(file.fileno()).st_mtime)
    return None
