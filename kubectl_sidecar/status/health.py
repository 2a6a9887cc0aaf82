"""What a probe says about the status document."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_sidecar.status.document import HEARTBEAT, Document
from kubectl_sidecar.units import format_duration

# Without --max-age a task is fresh for this many of its periods.
PERIODS = 3.0
# Seconds: three beats may be late before the supervisor counts as stopped.
LONGEST_SILENCE = 3 * HEARTBEAT
# Each probe, and the word for what it finds healthy.
PROBES = {"liveness": "alive", "startup": "started", "readiness": "ready"}


def unhealthy(document: Document, probe: str, max_age: float | None) -> str | None:
    """Say what a probe of PROBES finds wrong; `max_age`: seconds that a success may be old for readiness."""
    if document.has_ended():
        return f"process {document.content['pid']}, which wrote {document.path}, has ended"
    silence = document.age(document.content["heartbeat"])
    if silence > LONGEST_SILENCE:
        silent, beat = format_duration(round(silence)), format_duration(HEARTBEAT)
        return f"no heartbeat for {silent}; there is one every {beat}"
    if probe == "liveness":
        return None
    problems = []
    for task in document.content["tasks"]:
        limit = None if probe == "startup" else max_age or PERIODS * task["every"]
        if task["required"] and (stale := _stale(document, task, limit)):
            problems.append(f"{task['output']}: {stale}")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problems[0] + more if problems else None


def verdict(probe: str, problem: str | None) -> str:
    """Return the line that a probe of PROBES answers."""
    return f"not {PROBES[probe]}: {problem}" if problem else PROBES[probe]


def _stale(document: Document, task: Mapping[str, object], limit: float | None) -> str | None:
    error = f": {task['lastError']}" if task["lastError"] else ""
    if task["lastSuccess"] is None:
        return f"no success yet{error or ', the first refresh has not ended'}"
    age = document.age(str(task["lastSuccess"]))
    if limit is None or age <= limit:
        return None
    ago = format_duration(round(age, 0 if age >= 10 else 1))
    return f"the last success was {ago} ago, the limit is {format_duration(limit)}{error}"
