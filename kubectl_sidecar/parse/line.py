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
from kubectl_sidecar.parse.shell import BASH, Fault, Reader, Token, faults, written
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

# What is said about a task, by the names of OPTIONS.
Options = dict[str, Any]
# Normalised, and where it is written.
Output = tuple[str, Position]
# What stands before a stage, and its tokens.
_Part = tuple[Token, list[Token]]


def _parse_on_missing(text: str) -> str:
    if text not in ("keep", "remove"):
        raise ValueError(f"{quoted(text)} is neither keep nor remove; write one of them")
    return text


def _parse_switch(text: str) -> bool:
    if text.lower() not in ("true", "yes", "on", "false", "no", "off"):
        raise ValueError(f"{quoted(text)} is neither true nor false; write one of them")
    return text.lower() in ("true", "yes", "on")


# For each option: how its value is read, and what it is.
OPTIONS: dict[str, tuple[Callable[[str], object], str]] = {
    "every": (parse_duration, "a duration such as 30s"),
    "timeout": (parse_duration, "a duration such as 30s"),
    "mode": (parse_mode, "a file mode such as 0644"),
    "on_missing": (_parse_on_missing, "keep or remove"),
    # Which of them it is, read_hook finds out.
    "on_change": (str, "a URL or a pipeline"),
    "watch": (_parse_switch, "true or false"),
    "optional": (_parse_switch, "true or false"),
    "allow_empty": (_parse_switch, "true or false"),
}
# As directives they have no value.
SWITCHES = ("watch", "optional", "allow_empty")
_DIRECTIVES = {"@" + name.replace("_", "-"): name for name in OPTIONS}


@dataclass(slots=True)
class Findings:
    """What is found in all sources; stages and outputs are the sound ones, also of lines that are not."""

    environ: Mapping[str, str]
    allow_unset: bool
    problems: list[Problem] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    def find(self, where: Position, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(where, text))


class LineParser:
    """Reads a text of task lines; the tasks and whatever is wrong with them go to the findings."""

    def __init__(self, text: str, at: Callable[[int], Position], findings: Findings) -> None:
        """`at` tells where the character at an offset of the text stands."""
        self._text = text
        self._at = at
        self._findings = findings
        self.lines = list(Reader(text, findings.environ, allow_unset=findings.allow_unset).lines())

    def parse(self, line: list[Token], defaults: Options, said: Options) -> None:
        """Add the task of the line to the findings; `said` is what other keys say in YAML."""
        known = len(self._findings.problems)
        own, rest = self._directives(line, said)
        options = defaults | own
        loops = [token for token in rest if token.kind == "loop"]
        if not rest:
            self._find(line[-1], "expected a pipeline after the directives, in the same line", after=True)
            return
        if loops or rest[-1].kind == "unclosed":
            self._report(faults(loops or rest), _AS_A_STAGE)
            return
        if BUILTIN.fullmatch(rest[0].value) and not any(token.kind for token in rest):
            text = f"{quoted(rest[0].value)} is a command of a shell and makes no output; leave this line out"
            self._find(rest[0], text)
            return
        body = rest[:-1] if rest[-1].kind == "join" else rest  # a ; at the end
        is_joined = rest[0].bare in ("!", "time") or any(token.kind == "join" for token in body)
        target, output = self._output(rest, is_joined=is_joined)
        parts = _split([token for token in body if token is not target])
        if wrong := faults(token for token in rest if token is not target):
            way_out = "bash cannot be watched: leave @watch out"
            if not options["watch"] or not (is_joined or _needs_bash(parts[0][1])):
                directives = line[: len(line) - len(rest)]
                way_out = _with_bash(directives, parts, target if output else None, is_joined)
            self._report(wrong, way_out, script=written(rest) if is_joined else "")
        stages = self._stages(parts, target, is_joined)
        sound = [stage for stage in stages if stage]
        watch = self._plan(sound) if options.pop("watch") and stages[0] else None
        if output and len(self._findings.problems) == known and len(sound) == len(stages):
            options["every"] = options["every"] or (600.0 if watch else 30.0)
            options["required"] = not options.pop("optional")
            path, where = output
            task = Task(tuple(sound), path, watch=watch, where=sound[0].where, output_where=where, **options)
            self._findings.tasks.append(task)

    def _find(self, token: Token, text: str, *, after: bool = False) -> None:
        self._findings.find(self._at(token.start + (len(token.source) if after else 0)), text)

    def _directives(self, line: list[Token], said: Options) -> tuple[Options, list[Token]]:
        """Return what is said of the task, and what stands behind its directives."""
        own, rest = dict(said), line[::-1]
        while rest and rest[-1].bare.startswith("@"):
            token = rest.pop()
            self._report(token.faults, _NOT_COMPUTED)
            name = _DIRECTIVES.get(token.value, "")
            if name in own:
                self._find(token, f"{token.value} came before in this task; leave one of them out")
            if name:
                own[name] = True if name in SWITCHES else self._argument(name, token, rest)
            else:
                text = f"{quoted(token.source)} is no directive; there are {', '.join(_DIRECTIVES)}"
                self._find(token, text)
        return own, rest[::-1]

    def _argument(self, name: str, directive: Token, rest: list[Token]) -> object:
        """Take the value of a directive from what follows it, which is in reverse order."""
        read, what = OPTIONS[name]
        if not rest or rest[-1].kind:
            self._find(directive, f"expected {what} after {directive.value}", after=True)
            return None
        word, is_hook = rest.pop(), name == "on_change"
        self._report(word.faults, _TWICE if is_hook else _NOT_COMPUTED)
        if word.faults or (word.unset and not is_hook):
            return None
        if is_hook:
            where = self._at(word.start)
            return read_hook(word.value, where, self._findings, expanded=word.expanded, unset=word.unset)
        try:
            return read(word.value)
        except ValueError as error:
            # The environment may hold secrets: show how the word was written, not what it became.
            text = f"the value of {quoted(word.source)} is not {what}" if word.expanded else str(error)
            self._find(word, f"{directive.value}: {text}")
            return None

    def hook_stages(self, line: list[Token]) -> list[Stage]:
        """Return the stages of a line that has no output."""
        for token in line:
            if token.kind == "output":
                self._find(token, f"what it writes is thrown away; leave {quoted(token.source)} out")
        if line[-1].kind == "pipe":
            self._find(line[-1], "expected a command after |")
        wrong = faults(line)
        strange = [one for one in wrong if one.kind not in _FOR_BASH and one.unset != HOOK_OUTPUT]
        needs_bash = len(strange) < len(wrong)
        self._report(strange, "", script=self._text if needs_bash else "")
        if not needs_bash:
            return [stage for stage in self._stages(_split(line), None, False) if stage]
        # It means the same there as in sh.
        stage = Stage((*_BASH.split(), self._text), self._at(0))
        self._findings.stages.append(stage)
        return [stage]

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
        self._report(target.faults, _NOT_COMPUTED)
        return target, None

    def _report(self, wrong: list[Fault], way_out: str, *, script: str = "") -> None:
        """Report what is wrong; `way_out` is for what only bash can do."""
        for fault in sorted(wrong, key=lambda fault: fault.at):
            if fault.unset and f"{fault.unset}=" in script:
                continue  # bash will set it
            text = fault.text
            if way_out and fault.kind in (_COMPUTING if way_out in (_NOT_COMPUTED, _TWICE) else BASH):
                text += (" " if text.endswith("?") else "; ") + way_out
                if way_out.startswith("ready to paste"):
                    way_out = "the line above does it"
            self._findings.find(self._at(fault.at), text)

    def _stages(self, parts: list[_Part], end: Token | None, is_joined: bool) -> list[Stage | None]:
        """Return the stages, None for what is wrong; `end` is what follows the last one."""
        ends = [*(operator for operator, _ in parts[1:]), end]
        return [self._stage(part, end, is_joined) for (_, part), end in zip(parts, ends, strict=True)]

    def _stage(self, part: list[Token], following: Token | None, is_joined: bool) -> Stage | None:
        words = [token for token in part if not token.kind]
        if not words and following:
            hint = "; to go on in a new line, end the old one with |" if following.kind == "pipe" else ""
            self._find(following, f"expected a command before {quoted(following.source)}{hint}")
        if not words:
            return None
        program, where, wrong = words[0], self._at(words[0].start), faults(words)
        is_sound = not wrong and all(token.kind != "output" for token in part)
        is_quiet = any(token.kind == "quiet" for token in part)
        unset = frozenset(number for number, word in enumerate(words) if word.unset)
        argv, is_expanded = tuple(word.value for word in words), any(word.expanded for word in words)
        stage = Stage(argv, where, expanded=is_expanded, quiet=is_quiet, unset=unset)
        # Of what bash is to join, its own commands are no programs.
        is_built_in = is_joined and BUILTIN.fullmatch(program.value)
        if all(fault.unset for fault in wrong) and not (program.faults or program.unset or is_built_in):
            # Whatever its other words will be: is there such a program?
            alone = Stage((program.value,), where, expanded=program.expanded)
            self._findings.stages.append(stage if is_sound and not unset else alone)
        flags = takewhile(lambda word: word.value != "--", words)
        watching = [word for word in flags if _WATCH_FLAG.fullmatch(word.value)]
        if is_sound and watching and posixpath.basename(program.value) == "kubectl":
            text = f"{quoted(watching[0].source)} never ends; put @watch before the pipeline instead"
            self._find(watching[0], text)
            return None
        return stage if is_sound else None

    def _plan(self, stages: list[Stage]) -> WatchPlan | None:
        try:
            return plan(stages)
        except ValueError as error:
            self._findings.find(stages[0].where, f"@watch: {error}")
            return None


def read_hook(
    text: str, where: Position, findings: Findings, *, expanded: bool = False, unset: bool = False
) -> Hook | None:
    """Return what a text means behind @on-change; what is wrong with it goes to the findings.

    `expanded`, `unset`: whether it holds the value of a variable, or a variable that is not set.
    """
    problems = findings.problems
    known, wrong, hook = len(problems), "", Hook(url=text, expanded=expanded)
    parser = LineParser(text, lambda _: where, findings)
    if _URL.match(text):
        wrong = "" if unset else _wrong_url(text)
    elif unset:
        return None  # it may be a URL
    elif expanded:
        wrong = f"this is no URL; {_TWICE}"
    elif _LIKE_A_URL.match(text):
        wrong = "expected http:// or https:// at the beginning of a URL"
    elif len(parser.lines) != 1:
        wrong = f"expected a URL or one pipeline, but {len(parser.lines)} came"
    elif parser.lines[0][0].bare.startswith("@"):
        wrong = "directives stand outside of it, before the task's own pipeline"
    else:
        hook = Hook(tuple(parser.hook_stages(parser.lines[0])))
    if wrong:
        findings.find(where, wrong)
    problems[known:] = [replace(one, text=f"@on-change: {one.text}") for one in problems[known:]]
    return hook if len(problems) == known else None


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
    return any(fault.kind in BASH for fault in faults(part))


def _with_bash(directives: list[Token], parts: list[_Part], target: Token | None, is_joined: bool) -> str:
    """Write the line with bash around what only bash can do, if it can be written in a line."""
    wrong = [fault for _, part in parts for fault in faults(part)]
    is_whole = all(any(not token.kind for token in part) for _, part in parts)
    if not (target and is_whole) or any(not (fault.kind in BASH or fault.unset) for fault in wrong):
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
    line = written([*directives, Token(0, pipeline), target])
    sides = " (either side's output counts)" if any(operator.source == "||" for operator, _ in parts) else ""
    is_printable = visible(line.replace("\n", " ")) == line.replace("\n", " ")
    return f"ready to paste{sides}: {line}" if is_printable else _AS_A_STAGE
