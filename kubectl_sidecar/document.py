"""The status document, as those who read it see it: where it is, what it says, how old that is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime

# Probes run every few seconds in every Pod: what this module imports is what they cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
NAME = "status.json"
"""Of the document in the private directory of the container."""
HEARTBEAT = 10.0
"""Seconds between the supervisor's signs of life."""


class Unreadable(Exception):
    """There is no document, or it is none of ours; the text is for people."""


def moment() -> tuple[float, float]:
    """Return the time, and the seconds since boot, which go on as before when the clock is set."""
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(seconds: float) -> str:
    """2026-11-23T08:00:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Document:
    """The status document of a `kubectl-sidecar run`."""

    def __init__(self, path: str, text: str) -> None:
        """Raises Unreadable."""
        self.path = path
        self.text = text
        try:
            self.content: dict[str, Any] = json.loads(text)
            version = self.content["version"]
            self._written = from_rfc3339(self.content["time"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{path} is no status document") from error
        if version != VERSION:
            raise Unreadable(
                f"{path}: expected a status document of version {VERSION}, but version {version} came"
            )

    def age(self, time: str, since_boot: float) -> float:
        """Return how many seconds ago a time in the document was, at `since_boot`."""
        return since_boot - float(self.content["sinceBoot"]) + self._written - from_rfc3339(time)

    def has_ended(self) -> bool:
        """Tell whether its process is gone; False when its PID namespace is not ours to look into."""
        if self.content["pidNamespace"] != pid_namespace():
            return False
        return bool(process_start(self.content["pid"]) != self.content["processStart"])


def pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def process_start(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None: it is not there, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The program's name, in parentheses, may hold blanks and parentheses.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def find(paths: Iterable[str]) -> Document:
    """Read the first document that is there; raises Unreadable."""
    tried = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return Document(path, file.read())
        except (FileNotFoundError, NotADirectoryError):
            tried.append(path)
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    running = "is `kubectl-sidecar run` running in this container, as this user?"
    raise Unreadable(f"there is no status document: looked for {', '.join(tried)}; {running}")
