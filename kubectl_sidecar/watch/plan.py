"""Say how a line is watched: by which kubectl, and what is done when that tells of a change."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from kubectl_sidecar.errors import quoted
from kubectl_sidecar.kubectl.get import Get, invoked, take_apart
from kubectl_sidecar.task import Stage, WatchPlan

_REFUSED = {
    "filename": "name the objects instead",
    "kustomize": "name the objects instead",
    "raw": "write kubectl get TYPE NAME -o json instead, or leave @watch out",
    "subresource": "kubectl would watch the object itself; leave @watch out",
    "watch": "@watch does that; leave it out",
    "watch-only": "@watch does that; leave it out",
}
_SELECTING = {"selector", "field-selector", "all-namespaces"}
# With these, it is not up to the object alone whether kubectl succeeds; the last two it refuses with JSON.
_DECIDING = ("ignore-not-found", "warnings-as-errors", "show-labels", "output-watch-events")
_EVENTS = ("--watch", "--output-watch-events", "--chunk-size=0")
# How many words belong to a flag of jq, and which flags do nothing that can be seen before its input comes.
_JQ_OPERANDS = {"--arg": 2, "--argjson": 2, "--indent": 1}
_JQ_WAITING = re.compile(
    "-[scrjaSCMe]*|--slurp|--compact-output|--raw-output0?|--join-output|--ascii-output|--sort-keys"
    "|--color-output|--monochrome-output|--tab|--unbuffered|--stream|--stream-errors|--seq|--exit-status"
)
_JQ_READS_BYTES = re.compile("^--raw-input$|^--rawfile$|^-[a-zA-Z]*R|^/(?:dev|proc)/|input_line_number")
_JQ_READS_MODULES = re.compile(r"\b(?:import|include)\b")
_JQ_READS_CLOCK = re.compile(r"(?<!--arg )(?<!--argjson )(?<![\w.$])now\b")


def plan(stages: Sequence[Stage]) -> WatchPlan:
    """Return how the line with these stages is watched.

    Raises ValueError, with the reason for people, when it cannot be. `kubectl get TYPE NAME --watch` is never
    used: it loses a change between its GET and its WATCH.
    """
    get = _watchable(stages[0])
    objects = get.objects()
    kind, name = objects[0]
    if kind == "all" or any(other != kind for other, _ in objects):
        raise ValueError(
            "kubectl watches one type of objects at a time; make it a task for each type, or leave @watch out"
        )
    rest = [stage.argv for stage in stages[1:]]
    is_one = len(objects) == 1 and name and not get.flags.keys() & _SELECTING
    is_json = get.flags.get("output") == "json" and not any(map(get.is_on, _DECIDING))
    reads_json = rest and _is_jq(rest[0]) and not any(map(_JQ_READS_BYTES.search, rest[0]))
    feeds = bool(is_one and is_json and reads_json)
    managed_fields = feeds and get.is_on("show-managed-fields")
    argv = [stages[0].argv[0], "get", kind, *get.kept, *_EVENTS]
    if name and is_one:
        # Escaped as fields.EscapeValue of apimachinery does it.
        argv.append("--field-selector=metadata.name=" + re.sub(r"([\\,=])", r"\\\1", name))
    argv.append("--output=json" if feeds else "--no-headers")
    argv += ["--show-managed-fields"] * managed_fields
    ahead = feeds and all(map(_waits_for_input, rest))
    return WatchPlan(tuple(argv), feeds, ahead, managed_fields, tuple(_warnings(get, rest)))


def _warnings(get: Get, rest: Sequence[Sequence[str]]) -> Iterator[str]:
    """Say what in the output depends on the time, and goes stale while nothing changes."""
    stale = "@watch: {} will be as old as the last change or resync (@every)"
    if get.flags.get("output", "") in ("", "wide"):
        yield stale.format("the ages in kubectl's table")
    if any(_is_jq(argv) and _JQ_READS_CLOCK.search(" ".join(argv)) for argv in rest):
        yield stale.format("what jq makes of `now`")


def _watchable(stage: Stage) -> Get:
    what = invoked(stage.argv)
    if what != "kubectl get":
        shown = "another command" if stage.expanded else quoted(what)
        raise ValueError(f"only kubectl get can be watched, and this is {shown}; leave @watch out")
    try:
        get = take_apart(stage)
    except ValueError as error:
        raise ValueError(f"{error}; leave it or @watch out") from None
    for name, way_out in _REFUSED.items():
        if get.flags.get(name, "") not in ("", "false"):
            raise ValueError(f"--{name} cannot be watched: {way_out}")
    if stage.quiet:
        raise ValueError(
            "what kubectl says is needed: that an object is gone, or a verb missing; leave 2>/dev/null out"
        )
    return get


def _is_jq(argv: Sequence[str]) -> bool:
    return os.path.basename(argv[0]) == "jq"


def _waits_for_input(argv: Sequence[str]) -> bool:
    """Tell whether a stage is a jq that does nothing that can be seen before its input comes.

    Whatever is not known for certain does something: it reads files, or the clock.
    """
    programs, words = [], list(reversed(argv[1:]))
    while words:
        word = words.pop()
        if word in _JQ_OPERANDS:
            del words[-_JQ_OPERANDS[word] :]
        elif not word.startswith("-"):
            programs.append(word)
        elif not _JQ_WAITING.fullmatch(word):
            return False
    return _is_jq(argv) and len(programs) == 1 and not _JQ_READS_MODULES.search(programs[0])
