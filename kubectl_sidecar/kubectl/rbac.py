"""From a task to the rules of RBAC that it needs: none more, and none that is a guess."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from kubectl_sidecar.errors import Problem, quoted
from kubectl_sidecar.kubectl.get import WHO_AND_WHERE, Get, invoked, take_apart
from kubectl_sidecar.kubectl.rule import PATHS, Rule
from kubectl_sidecar.task import Stage, Task

# Programs that ask no cluster, and commands of kubectl that everybody may use: the roles system:discovery and
# system:basic-user say so.
_FILTERS = frozenset(
    "[ awk base32 base64 basename cat cksum column comm cut date diff dirname echo egrep expr false fgrep fmt"
    " fold grep gunzip gzip head join jq kill md5sum nl od paste pr printenv printf rev sed seq sha1sum"
    " sha256sum sha512sum shuf sleep sort split tac tail tee test tr true uniq wc yes zcat".split()
)
_FREE = frozenset("api-resources api-versions auth config explain help options version".split())
_FREE_OF_AUTH = {"can-i", "whoami"}
_FREE_PATHS = re.compile(r"/(?:api|apis|openapi)(?:/.*)?|/(?:healthz|livez|readyz)|/version/?")
_METRICS = dict.fromkeys(("pod", "pods", "po"), "pods") | dict.fromkeys(("node", "nodes", "no"), "nodes")
# By the rules of the API server, and of fields.ParseSelector.
_SELECTED_NAME = re.compile(r"(?:^|(?<!\\),)metadata\.name==?((?:[^,\\=!]|\\.)+)(?=,|$)")
_ON_NAMESPACES = ("status", "finalize")
_VERSION = re.compile(r"^v\d\w*\.")
_UNSET = re.compile(r"\0(?:\w+|\{\w+\})")


@dataclass(frozen=True, slots=True)
class Types:
    """The types of objects that a server knows."""

    # The items of `kubectl api-resources -o json`, in kubectl's order of preference.
    resources: Sequence[Mapping[str, Any]]
    # Says of a type that is not among them what is wrong with it.
    otherwise: str

    def find(self, word: str) -> Sequence[Mapping[str, Any]]:
        """Return what kubectl takes a word for: a type, or all of a category; raises LookupError."""
        name, _, group = word.partition(".")
        groups = {group, _VERSION.sub("", group)}
        tests: tuple[Callable[[Mapping[str, Any]], bool], ...] = (
            lambda it: name.lower() in (it["name"], it["singularName"] or it["kind"].lower()),
            lambda it: name in it.get("shortNames", ()),
            lambda it: name == it["kind"],
        )
        if category := [it for it in self.resources if word in it.get("categories", ())]:
            return category
        for test in tests:
            named = [it for it in self.resources if test(it)]
            exact = [it for it in named if not group or it.get("group", "") in groups]
            if found := exact or [it for it in named if it.get("group", "").startswith(group)]:
                return found[:1]
        raise LookupError(word)


# From the flags -f, -k and -R to each object's KIND.VERSION.GROUP, namespace and name; raises ValueError.
ReadFiles = Callable[[Sequence[str]], Iterable[tuple[str, str, str]]]


@dataclass(slots=True)
class Needs:
    """What a task needs."""

    # Each for one verb of one resource, and one name at most.
    rules: set[Rule] = field(default_factory=set)
    # What was taken for variables that are not set.
    notes: list[str] = field(default_factory=list)
    # Which stages may need more, and why that is not known.
    unknown: list[str] = field(default_factory=list)
    # Types of objects that there are not.
    problems: list[Problem] = field(default_factory=list)


def needs(task: Task, types: Types, namespace: str, read_files: ReadFiles) -> Needs:
    """Return what a task needs; `namespace` holds where its line names none."""
    found = Needs()
    reader = _Reader(types, namespace, read_files, found)
    for number, stage in enumerate((*task.stages, *(task.on_change.stages if task.on_change else ()))):
        # No word holds a NUL, so it can mark the variables that are not set.
        argv = tuple(w.replace("$", "\0") if i in stage.unset else w for i, w in enumerate(stage.argv))
        is_secret = stage.expanded or bool(stage.unset)
        try:
            reader.read(replace(stage, argv=argv), is_watched=not number and task.watch is not None)
        except ValueError as error:
            shown = "a stage" if is_secret else quoted(invoked(stage.argv))
            found.unknown.append(f"what {shown} needs is not known: {error}")
        except LookupError as error:
            word = "the type of objects" if is_secret else quoted(str(error.args[0]))
            found.problems.append(Problem(stage.where, f"{word} {types.otherwise}"))
    return found


def merged(rules: Iterable[Rule]) -> list[Rule]:
    """Return the fewest rules that allow just this; each given one is for one verb of one resource."""
    given = set(rules)
    together = [rule for rule in given if not given.intersection(_wider(rule))]
    for column in ("names", "verbs", "resources"):
        members: dict[Rule, set[str]] = {}
        for rule in together:
            members.setdefault(_with(rule, column, ()), set()).update(getattr(rule, column))
        together = [_with(rule, column, sorted(found)) for rule, found in members.items()]
    return sorted(together)


def _with(rule: Rule, column: str, entries: Iterable[str]) -> Rule:
    changed: dict[str, Any] = {column: tuple(entries)}
    return rule._replace(**changed)


def _wider(rule: Rule) -> set[Rule]:
    """Return the other rules that include this one."""
    everywhere = rule._replace(namespace="")
    return {everywhere, rule._replace(names=()), everywhere._replace(names=())} - {rule}


class _Reader:
    """Reads the stages of a task; what they need goes to `found`."""

    def __init__(self, types: Types, namespace: str, read_files: ReadFiles, found: Needs) -> None:
        self._types = types
        self._namespace = namespace
        self._read_files = read_files
        self._found = found

    def read(self, stage: Stage, *, is_watched: bool) -> None:
        """Read a stage; raises ValueError, with the reason for people, and LookupError for a type."""
        program, _, command = invoked(stage.argv).partition(" ")
        is_free = command in _FREE and (command != "auth" or _FREE_OF_AUTH & set(stage.argv))
        if program in _FILTERS or (is_free and not any(word.startswith("--as") for word in stage.argv)):
            return
        if program != "kubectl":
            raise ValueError("it may ask the cluster for anything")
        if command not in ("get", "top"):
            raise ValueError("only kubectl get and kubectl top are understood")
        get = take_apart(stage)
        if others := sorted(WHO_AND_WHERE & get.flags.keys()):
            raise ValueError(f"--{others[0]} makes it ask as somebody else, or somewhere else")
        if command == "top":
            self._top(get)
        elif get.flags.get("raw"):
            self._raw(get.flags["raw"])
        elif get.flags.get("filename") or get.flags.get("kustomize"):
            self._files(get)
        else:
            self._objects(get, is_watched=is_watched)

    def _objects(self, get: Get, *, is_watched: bool) -> None:
        objects, selected = get.objects(), _selected(get.flags.get("field-selector", ""))
        for word, name in objects:
            requests = [("get", name)] if name else [("list", selected)]
            if is_watched:
                # Of several names, each change of any object of the type is heard of.
                heard = name if name and len(objects) == 1 else selected
                requests += [("list", heard), ("watch", heard)]
            for it in self._types.find(_fixed(word)):
                self._add(get, it, requests)

    def _files(self, get: Get) -> None:
        flags = [_fixed(flag) for flag in get.kept if flag.startswith(("--filename", "--kustom", "--recurs"))]
        for kind, namespace, name in self._read_files(flags):
            for it in self._types.find(kind):
                self._add(get, it, [("get", name)], namespace)

    def _top(self, get: Get) -> None:
        what = _METRICS.get(get.words[1]) if 2 <= len(get.words) <= 3 else None
        if what is None:
            raise ValueError("expected kubectl top pod or kubectl top node, and one name at most")
        name, fields = "".join(get.words[2:]), get.flags.get("field-selector", "")
        it, verb = {"name": what, "namespaced": what == "pods"}, "get" if name else "list"
        self._add(get, {**it, "group": "metrics.k8s.io"}, [(verb, name)])
        # It shows what part of a Node's capacity that is; and metrics cannot be selected by fields.
        if what == "nodes" or fields:
            self._add(get, it, [(verb, name or _selected(fields))])

    def _add(
        self, get: Get, it: Mapping[str, Any], requests: Iterable[tuple[str, str]], namespace: str = ""
    ) -> None:
        """Add what is asked of a type: verbs, each with a name or none."""
        everywhere = not it["namespaced"] or get.is_on("all-namespaces")
        place = "" if everywhere else self._place(namespace or get.flags.get("namespace", ""))
        subresource = _fixed(get.flags.get("subresource", ""))
        resource = it["name"] + f"/{subresource}" * bool(subresource)
        for verb, name in requests:
            self._allow(place, it.get("group", ""), resource, verb, name)

    def _raw(self, raw: str) -> None:
        """Read a path as the API server does."""
        url = urlsplit(raw if raw.startswith("/") else f"/{raw}")
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        head = {"api": 2, "apis": 3}.get(parts[0], 0)
        if not head or len(parts) <= head:
            if not _FREE_PATHS.fullmatch(path := _fixed(unquote(url.path))):
                self._allow("", PATHS, path, "get", "")
            return
        group, rest, query = parts[1] if head == 3 else "", parts[head:], parse_qs(url.query)
        place, is_watch = "", rest[0] == "watch" and len(rest) > 1
        rest = rest[1:] if is_watch else rest
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _ON_NAMESPACES:
            place, rest = self._place(rest[1]), rest[2:]
        name, verb = "".join(rest[1:2]), "get"
        if not name:
            name, verb = _selected(query.get("fieldSelector", [""])[0]), "list"
            is_watch = is_watch or query.get("watch", [""])[0] in ("1", "true")
        resource = "/".join([rest[0], *rest[2:3]])
        verb = "watch" if is_watch else verb
        self._allow(place, _fixed(group), _fixed(resource), verb, name)

    def _allow(self, place: str, group: str, resource: str, verb: str, name: str) -> None:
        if self._is_unset(name, "the rule is for any name"):
            name = ""
        if not group and resource.startswith("namespaces") and verb == "get":
            place = name  # whoever asks for a namespace asks in it
        self._found.rules.add(Rule(place, group, (resource,), (name,) if name else (), (verb,)))

    def _place(self, namespace: str) -> str:
        if self._is_unset(namespace, f"the namespace {self._namespace} is taken"):
            return self._namespace
        return namespace or self._namespace

    def _is_unset(self, value: str, instead: str) -> bool:
        """Tell whether a variable in a value is not set, and note what is taken instead."""
        variables = _variables(value)
        note = f"{variables} is not set here: {instead}"
        if variables and note not in self._found.notes:
            self._found.notes.append(note)
        return bool(variables)


def _variables(value: str) -> str:
    """Return the variables in a value that are not set."""
    return ", ".join(_UNSET.findall(value)).replace("\0", "$")


def _fixed(value: str) -> str:
    """Return a value that must be known; raises ValueError."""
    if variables := _variables(value):
        raise ValueError(f"{variables} is not set here")
    return value


def _selected(fields: str) -> str:
    """Return the one name that a field selector lets through; empty: any."""
    found = _SELECTED_NAME.search(fields)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else ""
