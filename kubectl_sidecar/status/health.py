"""What a probe says about the status document."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kubectl_sidecar.status.document import HEARTBEAT, NAME, Document, candidates
from kubectl_sidecar.units import format_duration

# Without --max-age a task is fresh for this many of its periods.
PERIODS = 3.0
# Seconds: three beats may be late before the supervisor counts as stopped.
LONGEST_SILENCE = 3 * HEARTBEAT
# Each probe, and the word for what it finds healthy.
PROBES = {"liveness": "alive", "startup": "started", "readiness": "ready"}


def paths(status_file: str | None, environ: Mapping[str, str]) -> list[str]:
    """Return where the document may be, best first: only in `status_file`, if there is one."""
    if status_file:
        return [status_file]
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


def unhealthy(document: Document, probe: str, max_age: float | None, since_boot: float) -> str | None:
    """Say what a probe of PROBES finds wrong; `max_age`: seconds that a success may be old for readiness."""
    if document.has_ended():
        return f"process {document.content['pid']}, which wrote {document.path}, has ended"
    silence = document.age(document.content["heartbeat"], since_boot)
    if silence > LONGEST_SILENCE:
        silent, beat = format_duration(round(silence)), format_duration(HEARTBEAT)
        return f"no heartbeat for {silent}; there is one every {beat}"
    if probe == "liveness":
        return None
    problems = []
    for task in document.content["tasks"]:
        limit = None if probe == "startup" else max_age or PERIODS * task["every"]
        if task["required"] and (stale := _stale(document, task, limit, since_boot)):
            problems.append(f"{task['output']}: {stale}")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problems[0] + more if problems else None


def verdict(probe: str, problem: str | None) -> str:
    """Return the line that a probe of PROBES answers."""
    return f"not {PROBES[probe]}: {problem}" if problem else PROBES[probe]


def _stale(
    document: Document, task: Mapping[str, object], limit: float | None, since_boot: float
) -> str | None:
    error = f": {task['lastError']}" if task["lastError"] else ""
    if task["lastSuccess"] is None:
        return f"no success yet{error or ', the first refresh has not ended'}"
    age = document.age(str(task["lastSuccess"]), since_boot)
    if limit is None or age <= limit:
        return None
    ago = format_duration(round(age, 0 if age >= 10 else 1))
    return f"the last success was {ago} ago, the limit is {format_duration(limit)}{error}"
