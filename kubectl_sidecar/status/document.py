"""The status document, as those who read it see it: where it is, what it says, how old that is."""

from __future__ import annotations

# Probes run every few seconds in every Pod: what is imported here is what they cost.
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime

VERSION = 1
# Of a private directory, what its name begins with; and of the document in it.
PREFIX, NAME = "kubectl-sidecar-", "status.json"
# Seconds between the supervisor's signs of life.
HEARTBEAT = 10.0


class Unreadable(Exception):
    """There is no document, or it is none of ours; the text is for people."""


def moment() -> tuple[float, float]:
    """Return the time, and the seconds since boot, which go on as before when the clock is set."""
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as 2026-11-23T08:00:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Document:
    """The status document of a `kubectl-sidecar run`, as it was read just now."""

    def __init__(self, path: str, text: str) -> None:
        """Raises Unreadable when `text` is no such document."""
        self.path, self.text = path, text
        self.read_at = moment()[1]
        try:
            self.content = json.loads(text)
            version = self.content["version"]
            self._written = datetime.fromisoformat(self.content["time"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{path} is no status document") from error
        if version != VERSION:
            expected = f"expected a status document of version {VERSION}"
            raise Unreadable(f"{path}: {expected}, but version {version} came")

    def age(self, time: str) -> float:
        """Return how many seconds before the reading a time was: setting the clock makes nothing older."""
        before_writing = self._written - datetime.fromisoformat(time)
        return self.read_at - float(self.content["sinceBoot"]) + before_writing.total_seconds()

    def has_ended(self) -> bool:
        """Tell whether its process is gone; False when its PID namespace is not ours to look into."""
        is_visible = self.content["pidNamespace"] == pid_namespace()
        return is_visible and bool(process_start(self.content["pid"]) != self.content["processStart"])


def pid_namespace() -> int:
    """Return the number of the PID namespace of this process."""
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


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Return where the private directory of this container may be, best first."""
    # The last one is there and writable in every container, also with a read-only root file system, but it
    # is memory.
    parents = [environ.get("TMPDIR") or "/tmp", "/tmp", "/dev/shm"]  # noqa: S108 (its owner is looked at)
    # The containers of a Pod may share such a parent, but no two have the same mount namespace.
    container = os.stat("/proc/self/ns/mnt").st_ino
    return [f"{parent}/{PREFIX}{os.geteuid()}-{container}" for parent in dict.fromkeys(parents)]


def find(status_file: str | None, environ: Mapping[str, str]) -> Document:
    """Read the first document that is there, with a `status_file` only that one; raises Unreadable."""
    paths = [status_file] if status_file else _places(environ)
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return Document(path, file.read())
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    running = "is `kubectl-sidecar run` running in this container, as this user?"
    raise Unreadable(f"there is no status document: looked for {', '.join(paths)}; {running}")


def _places(environ: Mapping[str, str]) -> list[str]:
    # The private one of this container comes before the environment's, which `run` heeds too: it is there
    # even when the volume of the other is full, and never one that an earlier container left behind.
    private = [f"{directory}/{NAME}" for directory in candidates(environ) if not _is_foreign(directory)]
    public = environ.get("KUBECTL_SIDECAR_STATUS_FILE")
    return [*private, public] if public else private


def _is_foreign(directory: str) -> bool:
    """Tell whether it is somebody else's; `run` does not take such a directory either."""
    try:
        return os.stat(directory).st_uid != os.geteuid()
    except OSError:
        return False
