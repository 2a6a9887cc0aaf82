"""Read task lines: the directives of each, the stages of its pipeline and its output."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from kubectl_sidecar.errors import Position, Problem, quoted, visible
from kubectl_sidecar.parse.programs import BUILTIN
from kubectl_sidecar.parse.shell import BASH, Fault, Reader, Token, written
from kubectl_sidecar.task import HOOK_OUTPUT, Hook, Stage, Task, WatchPlan
from kubectl_sidecar.units import parse_duration, parse_mode
from kubectl_sidecar.watch.plan import plan

_WATCH_FLAG = re.compile(r"(?:--watch|--watch-only|-[ARh]*w[ARhw]*)(?:=(?:1|t|T|true|TRUE|True))?")
_BASH = "bash -euo pipefail -c "
_URL = re.compile("https?://", re.IGNORECASE)
_LIKE_A_URL = re.compile(r"\w+://|[\w.-]+:\d+(?:/|$)")
_AS_A_STAGE = f"use {_BASH}'…' as a stage, with '\"'\"' for each ' in it"
_NOT_COMPUTED = "no stage can compute this, only a variable of the container can"
_COMPUTING = ("command", "backtick")
# What bash does for a hook. What Kubernetes left unexpanded was not meant for it, and no value of a variable
# decides whether it is needed.
_FOR_BASH = BASH - {"left", "blanks", "empty"}
_TWICE = "put the pipeline in single quotes: its own variables are expanded when it is read"

# What is said about a task, by the names of OPTIONS and SWITCHES.
Options = dict[str, Any]
# Normalised, and where it is written.
Output = tuple[str, Position]
# What stands before a stage, and its tokens.
_Part = tuple[Token, list[Token]]


def parse_on_missing(text: str) -> str:
    """Return keep or remove; raises ValueError."""
    if text not in ("keep", "remove"):
        raise ValueError(f"{quoted(text)} is neither keep nor remove; write one of them")
    return text


# For each option with a value: how it is read, and what it is.
OPTIONS: dict[str, tuple[Callable[[str], object], str]] = {
    "every": (parse_duration, "a duration such as 30s"),
    "timeout": (parse_duration, "a duration such as 30s"),
    "mode": (parse_mode, "a file mode such as 0644"),
    "on_missing": (parse_on_missing, "keep or remove"),
    # Which of them it is, LineParser.hook finds out.
    "on_change": (str, "a URL or a pipeline"),
}
SWITCHES = ("watch", "optional", "allow_empty")
_DIRECTIVES = {"@" + name.replace("_", "-"): name for name in (*OPTIONS, *SWITCHES)}


@dataclass(slots=True)
class Findings:
    """What is found in all sources; stages and outputs are the sound ones, also of lines that are not."""

    environ: Mapping[str, str]
    allow_unset: bool
    problems: list[Problem] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


class LineParser:
    """Reads a text of task lines; the tasks and whatever is wrong with them go to the findings."""

    def __init__(
        self, text: str, at: Callable[[int], Position], findings: Findings, defaults: Options
    ) -> None:
        """`at` tells where the character at an offset of the text stands."""
        self._text = text
        self._at = at
        self._findings = findings
        self._defaults = defaults
        self.lines = list(Reader(text, findings.environ, allow_unset=findings.allow_unset).lines())

    def parse(self, line: list[Token], said: Options) -> None:
        """Add the task of the line to the findings; `said` is what other keys say in YAML."""
        known = len(self._findings.problems)
        options, rest = self._directives(line, said)
        directives = line[: len(line) - len(rest)]
        if not rest:
            self._find(line[-1], "expected a pipeline after the directives, in the same line", after=True)
        loops = [token for token in rest if token.kind == "loop"]
        if not rest or loops or rest[-1].kind == "unclosed":
            self._report(loops or rest, _AS_A_STAGE)
            return
        if BUILTIN.fullmatch(rest[0].value) and not any(token.kind for token in rest):
            text = f"{quoted(rest[0].value)} is a command of a shell and makes no output; leave this line out"
            self._find(rest[0], text)
            return
        body = rest[:-1] if rest[-1].kind == "join" else rest  # a ; at the end
        is_joined = rest[0].bare in ("!", "time") or any(token.kind == "join" for token in body)
        target, output = self._output(rest, is_joined=is_joined)
        self._report([target] if target else [], _NOT_COMPUTED)
        parts = _split([token for token in body if token is not target])
        way_out = "bash cannot be watched: leave @watch out"
        if not options["watch"] or not (is_joined or _needs_bash(parts[0][1])):
            way_out = _with_bash(directives, parts, target if output else None, is_joined)
        self._report([token for token in rest if token is not target], way_out, is_joined=is_joined)
        ends = [*(operator for operator, _ in parts[1:]), target]
        stages = [self._stage(part, end, is_joined) for (_, part), end in zip(parts, ends, strict=True)]
        sound = [stage for stage in stages if stage]
        watch = self._plan(sound) if options["watch"] and stages[0] else None
        if output and len(self._findings.problems) == known and len(sound) == len(stages):
            every = options["every"] or (600.0 if watch else 30.0)
            names = ("timeout", "mode", "on_missing", "on_change", "allow_empty")
            common = {name: options[name] for name in names}
            common |= {
                "where": sound[0].where,
                "output_where": output[1],
                "required": not options["optional"],
            }
            self._findings.tasks.append(Task(tuple(sound), output[0], every, watch=watch, **common))

    def _find(self, token: Token, text: str, *, after: bool = False) -> None:
        where = self._at(token.start + (len(token.source) if after else 0))
        self._findings.problems.append(Problem(where, text))

    def _directives(self, line: list[Token], said: Options) -> tuple[Options, list[Token]]:
        """Return what holds for the task, and what stands behind its directives."""
        own, rest = dict(said), line[::-1]
        while rest and rest[-1].bare.startswith("@"):
            token = rest.pop()
            self._report([token], _NOT_COMPUTED)
            name = _DIRECTIVES.get(token.value, "")
            if not name:
                text = f"{quoted(token.source)} is no directive; there are {', '.join(_DIRECTIVES)}"
                self._find(token, text)
            elif name in own:
                self._find(token, f"{token.value} came before in this task; leave one of them out")
            own[name] = True
            if name in OPTIONS and rest and not rest[-1].kind:
                own[name] = self._argument(token.value, rest.pop(), *OPTIONS[name])
            elif name in OPTIONS:
                self._find(token, f"expected {OPTIONS[name][1]} after {token.value}", after=True)
        return self._defaults | own, rest[::-1]

    def _argument(self, directive: str, word: Token, read: Callable[[str], object], what: str) -> object:
        is_hook = directive == "@on-change"
        self._report([word], _TWICE if is_hook else _NOT_COMPUTED)
        if is_hook and not word.faults:
            inner = LineParser(word.value, lambda _: self._at(word.start), self._findings, {})
            return inner.hook(expanded=word.expanded, unset=word.unset)
        try:
            return None if word.faults or word.unset else read(word.value)
        except ValueError as error:
            # The environment may hold secrets: show how the word was written, not what it became.
            text = f"the value of {quoted(word.source)} is not {what}" if word.expanded else str(error)
            self._find(word, f"{directive}: {text}")
            return None

    def hook(self, *, expanded: bool = False, unset: bool = False) -> Hook | None:
        """Return what the text means behind @on-change; what is wrong with it goes to the findings.

        `expanded`, `unset`: whether it holds the value of a variable, or a variable that is not set.
        """
        problems = self._findings.problems
        known, wrong = len(problems), ""
        if _URL.match(self._text):
            hook = Hook(url=self._text, expanded=expanded)
            wrong = "" if unset else _wrong_url(self._text)
        elif unset:
            return None  # it may be a URL
        elif expanded:
            wrong = f"this is no URL; {_TWICE}"
        elif _LIKE_A_URL.match(self._text):
            wrong = "expected http:// or https:// at the beginning of a URL"
        else:
            hook = Hook(tuple(self._hook_stages()))
        if wrong:
            problems.append(Problem(self._at(0), wrong))
        problems[known:] = [replace(one, text=f"@on-change: {one.text}") for one in problems[known:]]
        return hook if len(problems) == known else None

    def _hook_stages(self) -> list[Stage]:
        if len(self.lines) != 1:
            text = f"expected a URL or one pipeline, but {len(self.lines)} came"
            self._findings.problems.append(Problem(self._at(0), text))
            return []
        (line,) = self.lines
        if line[0].bare.startswith("@"):
            self._find(line[0], "directives stand outside of it, before the task's own pipeline")
            return []
        if self._report_of_hook(line):
            # It means the same there as in sh.
            stages = [Stage((*_BASH.split(), self._text), self._at(0))]
            self._findings.stages += stages
            return stages
        parts = _split(line)
        ends = [*(operator for operator, _ in parts[1:]), None]
        found = [self._stage(part, end, False) for (_, part), end in zip(parts, ends, strict=True)]
        return [stage for stage in found if stage]

    def _report_of_hook(self, line: list[Token]) -> bool:
        """Report what a hook cannot have; tell whether it is one for bash."""
        for token in line:
            if token.kind == "output":
                self._find(token, f"what it writes is thrown away; leave {quoted(token.source)} out")
        if line[-1].kind == "pipe":
            self._find(line[-1], "expected a command after |")
        faults = [fault for token in line for fault in token.faults]
        needs_bash = any(map(_is_for_bash, faults))
        for fault in faults:
            is_set = needs_bash and fault.unset and f"{fault.unset}=" in self._text
            if not (_is_for_bash(fault) or is_set):
                self._findings.problems.append(Problem(self._at(fault.at), fault.text))
        return needs_bash

    def _output(self, tokens: list[Token], *, is_joined: bool) -> tuple[Token | None, Output | None]:
        """Return the `> PATH` of the line, and the output if nothing is wrong with it."""
        targets = [token for token in tokens if token.kind == "output"]
        if not targets:
            is_open = tokens[-1].kind in ("pipe", "join")
            missing = f"a command after {tokens[-1].source}" if is_open else "> PATH after the last stage"
            self._find(tokens[-1], f"expected {missing}", after=True)
            return None, None
        target = targets[-1 if is_joined else 0]
        behind = tokens[tokens.index(target) + 1 :]
        if strange := [token for token in behind if token.kind not in ("quiet", "fd", "join")]:
            hint = "; for a copy in between use tee PATH as a stage" if strange[0].kind == "pipe" else ""
            came = quoted(strange[0].source)
            self._find(strange[0], f"expected the end of the line after the path, but {came} came{hint}")
        elif not target.faults:
            try:
                output = normalise(target.value), self._at(target.start)
                self._findings.outputs.append(output)
                return target, output
            except ValueError as error:
                self._find(target, str(error))
        return target, None

    def _report(self, tokens: list[Token], way_out: str, *, is_joined: bool = False) -> None:
        """Report what is wrong with the tokens; `way_out` is for what only bash can do."""
        line = written(tokens) if is_joined else ""
        faults = [fault for token in tokens for fault in token.faults]
        for fault in sorted(faults, key=lambda fault: fault.at):
            if fault.unset and f"{fault.unset}=" in line:
                continue  # bash will set it
            is_bash = fault.kind in (_COMPUTING if way_out in (_NOT_COMPUTED, _TWICE) else BASH)
            between = " " if fault.text.endswith("?") else "; "
            text = f"{fault.text}{between}{way_out}" if is_bash else fault.text
            self._findings.problems.append(Problem(self._at(fault.at), text))
            if is_bash and way_out.startswith("ready to paste"):
                way_out = "the line above does it"

    def _stage(self, part: list[Token], following: Token | None, is_joined: bool) -> Stage | None:
        """Return the stage that is followed by something; None if anything is wrong with it."""
        words = [token for token in part if not token.kind]
        if not words and following:
            hint = "; to go on in a new line, end the old one with |" if following.kind == "pipe" else ""
            self._find(following, f"expected a command before {quoted(following.source)}{hint}")
        if not words:
            return None
        program, where = words[0], self._at(words[0].start)
        faults = [fault for word in words for fault in word.faults]
        is_sound = not faults and all(token.kind != "output" for token in part)
        unset = frozenset(number for number, word in enumerate(words) if word.unset)
        # Of what bash is to join, its own commands are no programs.
        is_known = (
            not program.faults and not program.unset and not (is_joined and BUILTIN.fullmatch(program.value))
        )
        if is_known and (unset or not is_sound) and all(fault.unset for fault in faults):
            # Whatever its other words will be: is there such a program?
            self._findings.stages.append(Stage((program.value,), where, expanded=program.expanded))
        if not is_sound:
            return None
        for word in takewhile(lambda word: word.value != "--", words):
            if posixpath.basename(program.value) == "kubectl" and _WATCH_FLAG.fullmatch(word.value):
                self._find(word, f"{quoted(word.source)} never ends; put @watch before the pipeline instead")
                return None
        argv = tuple(word.value for word in words)
        is_expanded, is_quiet = any(word.expanded for word in words), any(t.kind == "quiet" for t in part)
        stage = Stage(argv, where, expanded=is_expanded, quiet=is_quiet, unset=unset)
        if is_known and not unset:
            self._findings.stages.append(stage)
        return stage

    def _plan(self, stages: list[Stage]) -> WatchPlan | None:
        try:
            return plan(stages)
        except ValueError as error:
            self._findings.problems.append(Problem(stages[0].where, f"@watch: {error}"))
            return None


def _is_for_bash(fault: Fault) -> bool:
    """Tell whether bash does for a hook what a task line cannot have."""
    return fault.kind in _FOR_BASH or fault.unset == HOOK_OUTPUT


def _wrong_url(url: str) -> str:
    """Say what is wrong with a URL; "" if nothing is."""
    from importlib.util import find_spec  # few tasks have one
    from urllib.parse import urlsplit

    try:
        is_sound = re.fullmatch("[!-~]+", url) and urlsplit(url).hostname and urlsplit(url).port != 0
    except ValueError:  # the port is no number, or the address not as in IPv6
        is_sound = False
    if not is_sound:
        return "expected http://HOST:PORT/PATH, in ASCII and without blanks"
    if url[:5].lower() == "https" and not find_spec("_ssl"):
        return "https needs Python's ssl module, which the minimal image has not; use the other one"
    return ""


def normalise(output: str) -> str:
    """Return `a/b` for the file `a//./b`, `a/` for the directory `./a/`; raises ValueError for neither."""
    if visible(output) != output or "\t" in output:
        raise ValueError("the output's path holds control characters, but it is the task's name in logs")
    path = posixpath.normpath(output)
    if posixpath.basename(output) in (".", "..") or not output or not path.strip("/"):
        raise ValueError("the output's path ends without the name of a file; add it")
    path += "/" * output.endswith("/")
    if path.startswith("../"):
        raise ValueError("the output's path leaves the output directory; write an absolute path to do so")
    # POSIX lets two leading slashes mean something else; Linux does not.
    return "/" + path.lstrip("/") if path.startswith("/") else path


def _split(tokens: list[Token]) -> list[_Part]:
    """Return the tokens of each stage, and what stands before it."""
    parts: list[_Part] = [(Token(0, ""), [])]
    for token in tokens:
        if token.kind in ("pipe", "join"):
            parts.append((token, []))
        else:
            parts[-1][1].append(token)
    return parts


def _needs_bash(part: list[Token]) -> bool:
    return any(fault.kind in BASH for token in part for fault in token.faults)


def _with_bash(directives: list[Token], parts: list[_Part], target: Token | None, is_joined: bool) -> str:
    """Write the line with bash around what only bash can do, if it can be written in a line."""
    faults = [fault for _, part in parts for token in part for fault in token.faults]
    is_whole = all(any(not token.kind for token in part) for _, part in parts)
    if not (target and is_whole) or any(not (fault.kind in BASH or fault.unset) for fault in faults):
        return _AS_A_STAGE
    # A second output, or a descriptor before the output, would mean something else inside of bash.
    last = [token for token in parts[-1][1] if token.kind == "output" or token.start < target.start]
    if any(re.match("output|fd (?!2>[^&])", f"{token.kind} {token.source}") for token in last):
        return _AS_A_STAGE
    # In sh only the output of the last command, or of the last ones with || between them, is meant.
    texts = [f"{operator.source} {written(part)}" for operator, part in parts]
    ends = [number for number, (operator, _) in enumerate(parts) if operator.source in ("&&", ";", "&")]
    others = f"{{{' '.join(texts[: ends[-1]])}; }} >&2 " if ends else ""
    script = others + " ".join(texts[ends[-1] :] if ends else texts).removeprefix(" ")
    stages = (_BASH + shlex.quote(written(part)) if _needs_bash(part) else written(part) for _, part in parts)
    pipeline = _BASH + shlex.quote(script) if is_joined else " | ".join(stages)
    line = " ".join(filter(None, [written(directives), pipeline, target.source]))
    sides = " (either side's output counts)" if any(operator.source == "||" for operator, _ in parts) else ""
    is_printable = visible(line.replace("\n", " ")) == line.replace("\n", " ")
    return f"ready to paste{sides}: {line}" if is_printable else _AS_A_STAGE
