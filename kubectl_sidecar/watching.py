"""How a line is watched: its `kubectl get` stage to the watch that tells of changes. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubectl_sidecar.errors import Problem
from kubectl_sidecar.jqwords import reads_json, waits_for_input
from kubectl_sidecar.pipeline import Stage
from kubectl_sidecar.tasks import Task

# Of kubectl 1.37: `kubectl get --help` and `kubectl options`.
_SHORT = {
    "A": "all-namespaces",
    "f": "filename",
    "k": "kustomize",
    "L": "label-columns",
    "l": "selector",
    "n": "namespace",
    "o": "output",
    "R": "recursive",
    "s": "server",
    "v": "v",
    "w": "watch",
}
_REFUSED = {
    "filename": "name the objects instead",
    "kustomize": "name the objects instead",
    "raw": "write kubectl get TYPE NAME -o json instead, or leave @watch out",
    "subresource": "kubectl would watch the object itself; leave @watch out",
    "watch": "@watch does that; leave it out",
    "watch-only": "@watch does that; leave it out",
}
# What a watch needs to ask the same API server the same question, as the same user.
_KEPT = frozenset(
    "all-namespaces as as-group as-uid as-user-extra cache-dir certificate-authority client-certificate"
    " client-key cluster context disable-compression field-selector insecure-skip-tls-verify kubeconfig"
    " kuberc match-server-version namespace password proxy-url selector server tls-server-name token user"
    " username".split()
)
# What only changes how objects are printed or how long one request may take: it would end the watch.
_DROPPED = frozenset(
    "allow-missing-template-keys chunk-size ignore-not-found label-columns log-flush-frequency no-headers"
    " output output-watch-events profile profile-output recursive request-timeout server-print show-kind"
    " show-labels show-managed-fields sort-by template v vmodule warnings-as-errors".split()
)
_SWITCHES = frozenset(
    "all-namespaces allow-missing-template-keys disable-compression ignore-not-found insecure-skip-tls-verify"
    " match-server-version no-headers output-watch-events recursive server-print show-kind show-labels"
    " show-managed-fields warnings-as-errors watch watch-only".split()
)
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}

_EVENTS = ("--watch", "--output-watch-events", "--chunk-size=0")
# One line an event. At an ERROR event jq ends with what that says: it is over.
_FILTER = (
    r'if .type == "ERROR" then "\(.object.message)\n" | halt_error(1)'
    " else [.type, (.object%s)] end"
)


@dataclass(frozen=True, slots=True)
class Watching:
    """How one task is watched."""

    argvs: tuple[tuple[str, ...], ...]
    """The programs that write a line at each change."""
    feeds: bool
    """The line is `["TYPE",OBJECT]`, and the object is what the stages after the source get.

    Otherwise a line only means that something has changed, and the task is run as it stands.
    """
    ahead: bool
    """The stages after the source may be started before there is an object: they do nothing until then."""


@dataclass(slots=True)
class _Get:
    """A `kubectl get` command, taken apart."""

    flags: dict[str, str] = field(default_factory=dict)
    """Each by its long name with its last value, which is the one that counts."""
    kept: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """Whatever is no flag, from the verb on."""

    def is_on(self, switch: str) -> bool:
        return self.flags.get(switch) in _TRUE


def problems(tasks: Iterable[Task]) -> list[Problem]:
    """Find what is wrong with the tasks that are to be watched."""
    found = []
    for task in tasks:
        if task.watch:
            try:
                plan(task.stages)
            except ValueError as error:
                found.append(task.stages[0].where.problem(f"@watch: {error}"))
    return found


def plan(stages: Sequence[Stage]) -> Watching:
    """Say how the line with these stages is watched; raises ValueError with the reason when it cannot be.

    `kubectl get TYPE NAME --watch` is never used: a change between its GET and its WATCH would be lost.
    """
    get = _take_apart(stages[0])
    kind, names = _objects(get.words[1:])
    name = names[0] if len(names) == 1 and names[0] and not get.flags.keys() & _SELECTING else None
    kubectl = (stages[0].argv[0], "get", kind, *get.kept, *_EVENTS)
    if name is not None:
        kubectl = (*kubectl, f"--field-selector=metadata.name={_escaped(name)}")
    rest = [stage.argv for stage in stages[1:]]
    if (
        name is None
        or get.flags.get("output") != "json"
        or get.is_on("ignore-not-found")
        or not reads_json(rest)
    ):
        return Watching(((*kubectl, "--no-headers"),), feeds=False, ahead=False)
    without = "" if get.is_on("show-managed-fields") else " | del(.metadata.managedFields)"
    jq = (rest[0][0], "--unbuffered", "-c", _FILTER % without)
    return Watching(((*kubectl, "--output=json"), jq), feeds=True, ahead=all(map(waits_for_input, rest)))


_SELECTING = {"selector", "field-selector", "all-namespaces"}


def describe(task: Task) -> str:
    """Say how a watched task is watched and what that needs, for `check`."""
    if plan(task.stages).feeds:
        return "each object is fed to the rest of the line; needs the verbs get, list and watch for it"
    return "each change runs the line again; needs the verbs list and watch for what it lists or gets"


def _escaped(name: str) -> str:
    """As fields.EscapeValue of apimachinery does it."""
    return re.sub(r"([\\,=])", r"\\\1", name)


def _objects(words: Sequence[str]) -> tuple[str, list[str]]:
    """The type and the names that a get is asked for."""
    if not words:
        raise ValueError("expected a type of objects after get")
    if "/" in words[0]:
        pairs = [word.split("/") for word in words]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("expected TYPE NAME or TYPE/NAME after get")
        kinds, names = {pair[0] for pair in pairs}, [pair[1] for pair in pairs]
    else:
        kinds, names = set(words[0].split(",")), list(words[1:])
    if len(kinds) > 1 or kinds == {"all"}:
        raise ValueError(
            "kubectl watches one type of objects at a time; make it a task for each type, or leave @watch out"
        )
    return kinds.pop(), names


def _take_apart(stage: Stage) -> _Get:
    if os.path.basename(stage.argv[0]) != "kubectl":
        raise ValueError(
            "only kubectl get can be watched, and the first stage is another program; leave @watch out"
        )
    get, words = _Get(), list(reversed(stage.argv[1:]))
    while words:
        word = words.pop()
        if word == "--":
            get.words += reversed(words)
            break
        if word.startswith("-") and word != "-":
            for name, value in _flags(word, words, stage):
                _note(get, name, value)
        else:
            get.words.append(word)
    if get.words[:1] != ["get"]:
        raise ValueError("only kubectl get can be watched; leave @watch out")
    return get


def _note(get: _Get, name: str, value: str) -> None:
    if name in _REFUSED and value not in ("", "false"):
        raise ValueError(f"--{name} cannot be watched: {_REFUSED[name]}")
    get.flags[name] = value
    if name in _KEPT:
        get.kept.append(f"--{name}={value}")


def _flags(word: str, words: list[str], stage: Stage) -> list[tuple[str, str]]:
    """The flags in one word, by the rules of pflag; takes the value from `words` when it is the next one."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        name = name.replace("_", "-")
        return [(_known(name, stage), value if equals else _value(name, words))]
    found, letters = [], word[1:]
    while letters:
        name, letters = _known(_SHORT.get(letters[0], letters[0]), stage), letters[1:]
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif name in _SWITCHES or not letters:
            value = _value(name, words)
        else:
            value, letters = letters, ""
        found.append((name, value))
    return found


def _known(name: str, stage: Stage) -> str:
    if name in _KEPT or name in _DROPPED or name in _REFUSED:
        return name
    shown = "" if stage.expanded else f" --{name}" if len(name) > 1 else f" -{name}"
    raise ValueError(f"what kubectl's flag{shown} means for a watch is not known; leave it or @watch out")


def _value(name: str, words: list[str]) -> str:
    if name in _SWITCHES:
        return "true"
    if not words:
        raise ValueError(f"expected a value after --{name}")
    return words.pop()
