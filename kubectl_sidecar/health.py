"""The health command: from the status document to one line and an exit status, in little time and memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from kubectl_sidecar.document import HEARTBEAT, NAME, Document, Unreadable, find, moment
from kubectl_sidecar.runtime import candidates

PERIODS = 3.0
"""Without --max-age a task is fresh for this many of its periods."""
# Three beats may be late before the supervisor counts as stuck.
LONGEST_SILENCE = 3 * HEARTBEAT
STATUS_VARIABLE, MAX_AGE_VARIABLE = "KUBECTL_SIDECAR_STATUS_FILE", "KUBECTL_SIDECAR_MAX_AGE"
_PROBE_FLAGS = {"--startup": "startup", "--ready": "readiness"}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
PROBES = {"liveness": "alive", "startup": "started", "readiness": "ready"}


def health(probe: str, max_age: float | None, status_file: str | None, environ: Mapping[str, str]) -> int:
    """Print the verdict; returns the exit status."""
    try:
        document = find(paths(status_file, environ))
        problem = unhealthy(document, probe, max_age, moment()[1])
    except Unreadable as error:
        problem = str(error)
    print(f"not {PROBES[probe]}: {problem}" if problem else PROBES[probe])
    return int(problem is not None)


def paths(status_file: str | None, environ: Mapping[str, str]) -> list[str]:
    """Return where the document may be.

    The private one of this container comes before the environment's, which `run` heeds too: it is there even
    when the volume of the other is full, and never one that an earlier container left behind.
    """
    if status_file:
        return [status_file]
    private = [f"{directory}/{NAME}" for directory in candidates(environ) if not _is_foreign(directory)]
    public = environ.get(STATUS_VARIABLE)
    return [*private, public] if public else private


def _is_foreign(directory: str) -> bool:
    """`run` does not take such a directory either: the containers of a Pod may share its parent."""
    try:
        return os.stat(directory).st_uid != os.geteuid()
    except OSError:
        return False


def unhealthy(document: Document, probe: str, max_age: float | None, since_boot: float) -> str | None:
    """Say what is wrong; None: nothing is."""
    if document.has_ended():
        return f"process {document.content['pid']}, which wrote {document.path}, has ended"
    silence = document.age(document.content["heartbeat"], since_boot)
    if silence > LONGEST_SILENCE:
        return f"no heartbeat for {_text(round(silence))}; there is one every {_text(HEARTBEAT)}"
    problems = [
        f"{output}: its refresh is stuck long past the timeout" for output in document.content["stuck"]
    ]
    for task in document.content["tasks"]:
        if task["required"] and probe != "liveness":
            limit = None if probe == "startup" else max_age or PERIODS * task["every"]
            if stale := _stale(document, task, limit, since_boot):
                problems.append(f"{task['output']}: {stale}")
    return _first(problems)


def _stale(
    document: Document, task: Mapping[str, object], limit: float | None, since_boot: float
) -> str | None:
    error = f": {task['lastError']}" if task["lastError"] else ""
    if task["lastSuccess"] is None:
        return f"no success yet{error or ', the first refresh has not ended'}"
    age = document.age(str(task["lastSuccess"]), since_boot)
    if limit is None or age <= limit:
        return None
    ago = _text(round(age, 0 if age >= 10 else 1))
    return f"the last success was {ago} ago, the limit is {_text(limit)}{error}"


def _first(problems: Sequence[str]) -> str | None:
    if len(problems) < 2:
        return problems[0] if problems else None
    return f"{problems[0]} (and {len(problems) - 1} more)"


def _text(seconds: float) -> str:
    # Its imports would double the cost of a probe, and a healthy one has nothing to say.
    from kubectl_sidecar.durations import format_duration

    return format_duration(seconds)


def quick(words: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Run the command at half the cost of argparse's; None: these words are for argparse to judge."""
    probe, max_age, status_file = "liveness", None, None
    for word in words:
        name, _, value = word.partition("=")
        if word in _PROBE_FLAGS and probe == "liveness":
            probe = _PROBE_FLAGS[word]
        elif name == "--max-age" and value[-1:] in _UNITS and value[:-1].isdecimal() and int(value[:-1]):
            max_age = int(value[:-1]) * _UNITS[value[-1]]
        elif name == "--status-file" and value:
            status_file = value
        else:
            return None
    if MAX_AGE_VARIABLE in environ and max_age is None:
        return None
    return health(probe, max_age, status_file, environ)
