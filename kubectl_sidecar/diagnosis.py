"""What the stages said when they failed, to one line for people: no data in it, and a way out where one is known."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from kubectl_sidecar.commands import Ended, status_text
from kubectl_sidecar.shutdown import SIGPIPE, SIGTERM

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_KLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")
# jq's runtime errors quote the value they failed on, and kubectl's template errors dump the whole object: secrets.
_JQ_VALUE = re.compile(r"\b(null|boolean|number|string|array|object) \(.*\)")
_JQ_NOT_A_STRING = re.compile(r"\(not a string\): .*")
_JQ_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*" (?=does not match|is not valid|cannot be)')
_TEMPLATE_DUMP = re.compile(r"Printing more information for debugging the template:.*", re.DOTALL)
_FORBIDDEN = re.compile(
    r' cannot (?P<verb>\S+) (?:path "(?P<path>[^"]*)"|resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?)'
)
_FORBIDDEN_NAME = re.compile(r'\(Forbidden\): \S+ "(?P<name>[^"]*)" is forbidden')


def failed_stages(ended: Ended) -> list[int]:
    """Return the positions of the stages whose exit status makes the refresh fail; empty: none does.

    SIGPIPE of an earlier stage is fine when the last one succeeded (`… | head -1`). When the last one failed, what died
    of SIGPIPE, or was ended because of that, is not the cause.
    """
    last = len(ended.statuses) - 1
    innocent = {0, -SIGPIPE, 128 + SIGPIPE} | ({-SIGTERM} if ended.statuses[last] else set())
    return [i for i, status in enumerate(ended.statuses) if status and (i == last or status not in innocent)]


def is_not_found(argv: Sequence[str], stderr: str) -> bool:
    """Tell whether kubectl says that the object does not exist; its exit status is 1 for everything."""
    return is_kubectl(argv) and any(line.startswith("Error from server (NotFound)") for line in stderr.splitlines())


def is_kubectl(argv: Sequence[str]) -> bool:
    return os.path.basename(argv[0]) == "kubectl"


def reason(argvs: Sequence[Sequence[str]], ended: Ended) -> str:
    """Say why a pipeline failed, in one line."""
    return "; ".join(_stage_reason(argvs[i], ended.statuses[i], ended.stderrs[i]) for i in failed_stages(ended))


def _stage_reason(argv: Sequence[str], status: int, stderr: str) -> str:
    said = one_line(stderr)
    text = f"{os.path.basename(argv[0])} {status_text(status)}" + (f": {said}" if said else "")
    rule = missing_rule(stderr) if is_kubectl(argv) else None
    return f"{text} (missing rule: {rule})" if rule else text


def one_line(stderr: str) -> str:
    """Put a program's stderr on one line, without control characters and without the data it may quote."""
    lines = _TEMPLATE_DUMP.sub("", stderr).splitlines()
    # kubectl tries discovery five times, and logs each of them before it says what is wrong.
    plain = [line for line in lines if not _KLOG.match(line)] or lines
    words = " / ".join(_CONTROL.sub(" ", _without_data(line)).strip() for line in plain if line.strip())
    return words.encode(errors="replace").decode()


def _without_data(line: str) -> str:
    line = _JQ_VALUE.sub(r"\1 (…)", line)
    line = _JQ_NOT_A_STRING.sub("(not a string): …", line)
    return _JQ_QUOTED.sub('"…" ', line)


def missing_rule(stderr: str) -> str | None:
    """Turn the API server's Forbidden into the rule that is missing, as text for the `rules:` of a Role."""
    if not (match := _FORBIDDEN.search(stderr)):
        return None
    if match["path"] is not None:
        return f'{{nonResourceURLs: ["{match["path"]}"], verbs: ["{match["verb"]}"]}} in a ClusterRole'
    name = _FORBIDDEN_NAME.search(stderr)
    names = f', resourceNames: ["{name["name"]}"]' if name else ""
    place = f"a Role in namespace {match['namespace']}" if match["namespace"] else "a ClusterRole"
    return (
        f'{{apiGroups: ["{match["group"]}"], resources: ["{match["resource"]}"]{names}, verbs: ["{match["verb"]}"]}}'
        f" in {place}"
    )
