"""What the stages said when they failed, to one line for people: no data in it, a way out if there is one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from kubectl_sidecar.commands import CUT, Ended, status_text
from kubectl_sidecar.shutdown import SIGPIPE, SIGTERM

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_KLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")
# What jq 1.8.2 and kubectl 1.37.1 say may quote the values that they failed on: secrets. These are all the
# places in their sources that do; jq's error("...") and halt_error are not among them, they say what the
# program wants said.
_QUOTES_DATA = ("jq", "kubectl")
_WITHOUT_DATA = [
    (re.compile(pattern, re.DOTALL if to_the_end else 0), instead)
    for pattern, to_the_end, instead in [
        ("Printing more information for debugging the template:.*", True, ""),
        (".*(?= is not array or slice and cannot be filtered)", True, "…"),
        (r"\(while parsing '.*", True, "(while parsing …)"),
        (r'\bdate ".*" does not match format ".*"', True, 'date "…" does not match format "…"'),
        (r"(\(at [^)]*\): ).*( is not a valid (?:format|modifier string))", True, r"\1…\2"),
        (r"(Regex failure: [^<]*<).*", True, r"\1…>"),
        (r"\b(null|boolean|number|string|array|object) \(.*\)", False, r"\1 (…)"),
        (r"\(not a string\): .*", False, "(not a string): …"),
        (r"(Invalid path expression (?:with|near attempt to) [a-z ]+) .*", False, r"\1 …"),
        (r'\["DEBUG:",.*', False, '["DEBUG:",…]'),
    ]
]
_SURE = ("Error from server (", "The connection to the server ", "Unable to connect to the server: ")
_FORBIDDEN = re.compile(
    r' cannot (?P<verb>\S+) (?:path "(?P<path>[^"]*)"|resource "(?P<resource>[^"]*)"'
    r' in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?)'
)
_FORBIDDEN_NAME = re.compile(r'\(Forbidden\): \S+ "(?P<name>[^"]*)" is forbidden')


def failed_stages(ended: Ended) -> list[int]:
    """Return the positions of the stages whose exit status makes the refresh fail; empty: none does.

    SIGPIPE of an earlier stage is fine when the last one succeeded (`… | head -1`). When the last one failed,
    what died of SIGPIPE, or was ended because of that, is not the cause.
    """
    last = len(ended.statuses) - 1
    innocent = {0, -SIGPIPE, 128 + SIGPIPE} | ({-SIGTERM} if ended.statuses[last] else set())
    return [i for i, status in enumerate(ended.statuses) if status and (i == last or status not in innocent)]


def is_not_found(argv: Sequence[str], stderr: str) -> bool:
    """Tell whether kubectl says that the object does not exist; its exit status is 1 for everything."""
    said = stderr.splitlines() if is_kubectl(argv) else []
    return any(line.startswith("Error from server (NotFound)") for line in said)


def is_kubectl(argv: Sequence[str]) -> bool:
    return os.path.basename(argv[0]) == "kubectl"


def reason(argvs: Sequence[Sequence[str]], ended: Ended) -> str:
    """Say why a pipeline failed, in one line."""
    failed = failed_stages(ended)
    # kubectl exits with 1 and says nothing when it is ended because a later stage has failed.
    spoke = [i for i in failed if ended.stderrs[i] or not is_kubectl(argvs[i])] or failed
    return "; ".join(_stage_reason(argvs[i], ended.statuses[i], ended.stderrs[i]) for i in spoke)


def _stage_reason(argv: Sequence[str], status: int, stderr: str) -> str:
    program = os.path.basename(argv[0])
    said = one_line(stderr, program)
    text = f"{program} {status_text(status)}" + (f": {said}" if said else "")
    rule = missing_rule(stderr) if is_kubectl(argv) else None
    return f"{text} (missing rule: {rule})" if rule else text


def one_line(stderr: str, program: str = "kubectl") -> str:
    """Put a program's stderr on one line, without control characters and without the data it may quote."""
    cut = stderr.startswith(CUT)
    for pattern, instead in _WITHOUT_DATA:
        stderr = pattern.sub(instead, stderr)
    lines = stderr.splitlines()
    if cut and program in _QUOTES_DATA:
        # They only say so much when they quote data, and what marks it as such is what was cut off.
        lines = ["…", *(line for line in lines if line.startswith(_SURE))]
    # kubectl tries discovery five times, and logs each of them before it says what is wrong.
    plain = [line for line in lines if not _KLOG.match(line)] or lines
    words = " / ".join(_CONTROL.sub(" ", line).strip() for line in plain if line.strip())
    return words.encode(errors="replace").decode()


def missing_rule(stderr: str) -> str | None:
    """Turn the API server's Forbidden into the rule that is missing, as text for the `rules:` of a Role."""
    if not (match := _FORBIDDEN.search(stderr)):
        return None
    if match["path"] is not None:
        return f'{{nonResourceURLs: ["{match["path"]}"], verbs: ["{match["verb"]}"]}} in a ClusterRole'
    name = _FORBIDDEN_NAME.search(stderr)
    names = f', resourceNames: ["{name["name"]}"]' if name else ""
    place = f"a Role in namespace {match['namespace']}" if match["namespace"] else "a ClusterRole"
    groups, resources = f'apiGroups: ["{match["group"]}"]', f'resources: ["{match["resource"]}"]'
    return f'{{{groups}, {resources}{names}, verbs: ["{match["verb"]}"]}} in {place}'
