"""The health command: from the status document to one line and an exit status, in little time and memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from kubectl_sidecar.document import HEARTBEAT, NAME, Document, Unreadable, find, moment
from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.runtime import candidates

PERIODS = 3.0
"""Without --max-age a task is fresh for this many of its periods."""
# Three beats may be late before the supervisor counts as stuck.
LONGEST_SILENCE = 3 * HEARTBEAT
STATUS_VARIABLE, MAX_AGE_VARIABLE = "KUBECTL_SIDECAR_STATUS_FILE", "KUBECTL_SIDECAR_MAX_AGE"
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
        return f"no heartbeat for {_rounded(silence)}; there is one every {format_duration(HEARTBEAT)}"
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
    return f"the last success was {_rounded(age)} ago, the limit is {format_duration(limit)}{error}"


def _first(problems: Sequence[str]) -> str | None:
    if len(problems) < 2:
        return problems[0] if problems else None
    return f"{problems[0]} (and {len(problems) - 1} more)"


def _rounded(seconds: float) -> str:
    return format_duration(round(seconds, 0 if seconds >= 10 else 1))


def quick(words: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Run the command without argparse, a fifth of the cost; None: these words are argparse's to judge."""
    given = dict.fromkeys(("--startup", "--ready", "--status-file"), "")
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if given.get(word) != "" or (word == "--status-file" and not rest):
            return None
        given[word] = rest.pop(0) if word == "--status-file" else word
    if (given["--startup"] and given["--ready"]) or MAX_AGE_VARIABLE in environ:
        return None
    probe = "startup" if given["--startup"] else "readiness" if given["--ready"] else "liveness"
    return health(probe, None, given["--status-file"], environ)
