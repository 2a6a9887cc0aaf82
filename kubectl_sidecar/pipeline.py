"""A line of words to a `Pipeline` of argv tuples, its output and its directives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from kubectl_sidecar.durations import parse_duration
from kubectl_sidecar.expansion import Token
from kubectl_sidecar.places import Finding, Position, Text, quoted, visible
from kubectl_sidecar.words import Line

OnMissing = Literal["keep", "remove"]

_RESERVED = frozenset(
    "! { } [[ ]] case coproc do done elif else esac fi for function if in select then time until while".split()
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[|\+?=)")
_WATCH = re.compile(r"(?:--watch|--watch-only|-[ARh]*w[ARhw]*)(?:=(?:1|t|T|true|TRUE|True))?")
_OCTAL = re.compile(r"0?o?([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Stage:
    argv: tuple[str, ...]
    where: Position = field(compare=False)
    expanded: bool = field(default=False, compare=False)
    """Whether values from the environment are among the words: no message may show them."""


@dataclass(frozen=True, slots=True)
class Directives:
    """What a task says about itself; None where it says nothing."""

    every: float | None = None
    timeout: float | None = None
    mode: int | None = None
    on_missing: OnMissing | None = None
    watch: bool | None = None
    optional: bool | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    stages: tuple[Stage, ...]
    output: str
    directives: Directives
    output_where: Position = field(compare=False)


def parse_mode(text: str) -> int:
    found = _OCTAL.fullmatch(text)
    if not found:
        raise ValueError(f"{quoted(text)} is no file mode; write three octal digits such as 0644")
    return int(found[1], 8)


def parse_on_missing(text: str) -> OnMissing:
    if text == "keep" or text == "remove":  # noqa: PLR1714  # only so does mypy see the literals
        return text
    raise ValueError(f"{quoted(text)} is neither keep nor remove; write one of them")


SETTINGS: dict[str, Callable[[str], Any]] = {
    "every": parse_duration,
    "timeout": parse_duration,
    "mode": parse_mode,
    "on_missing": parse_on_missing,
}
_FLAGS = ("watch", "optional")
_FIELDS = {f"@{name.replace('_', '-')}": name for name in (*SETTINGS, *_FLAGS)}
EXAMPLES = {"every": "30s", "timeout": "30s", "mode": "0644", "on_missing": "keep or remove"}


class Parser:
    """One line of words to one pipeline; whatever is wrong with it goes to `findings`."""

    def __init__(self, line: Line, text: Text, findings: list[Finding]) -> None:
        self._line = line
        self._place = text.at
        self._findings = findings
        self._sound = True

    def parse(self, *, output: bool = True) -> Pipeline | None:
        """None if something is wrong; with `output` False the output is given elsewhere and must not be here."""
        directives, tokens = self._directives(self._line.tokens)
        if self._line.broken:
            return None
        commands, target = self._output(tokens, wanted=output) if tokens else ([], None)
        if not commands and self._sound:
            self._find(self._line.tokens[-1], "expected a command in this line")
        stages = tuple(self._stage(words) for words in self._split(commands) if words)
        if not self._sound:
            return None
        where = self._place(target.start) if target else stages[0].where
        return Pipeline(stages, target.value if target else "", directives, where)

    def _find(self, token: Token, text: str, *, after: bool = False) -> None:
        offset = token.start + (len(token.source) if after else 0)
        self._findings.append((self._place(offset), text))
        self._sound = False

    def _directives(self, tokens: Sequence[Token]) -> tuple[Directives, Sequence[Token]]:
        given: dict[str, Any] = {}
        rest = list(reversed(tokens))
        while rest and rest[-1].bare.startswith("@"):
            token = rest.pop()
            name = _FIELDS.get(token.value)
            if not name:
                guess = did_you_mean(token.value, _FIELDS)
                self._find(
                    token, f"{quoted(token.source)} is no directive{guess}; there are {', '.join(_FIELDS)}"
                )
                continue
            if name in given:
                self._find(token, f"{token.value} came before in this line; leave one of them out")
            given[name] = self._argument(token, name, rest) if name in SETTINGS else True
        return Directives(**given), rest[::-1]

    def _argument(self, directive: Token, name: str, rest: list[Token]) -> Any:
        if not rest or rest[-1].is_operator:
            self._find(
                directive, f"expected a value after {directive.value}, such as {EXAMPLES[name]}", after=True
            )
            return None
        word = rest.pop()
        try:
            return SETTINGS[name](word.value)
        except ValueError as error:
            # The environment may hold secrets: show how the word was written, not what it became.
            text = (
                f"the value of {quoted(word.source)} does not fit" if word.expanded else visible(str(error))
            )
            self._find(word, f"{directive.value}: {text}")
            return None

    def _output(self, tokens: Sequence[Token], *, wanted: bool) -> tuple[Sequence[Token], Token | None]:
        at = next(
            (i for i, token in enumerate(tokens) if token.is_operator and token.value == ">"), len(tokens)
        )
        commands, redirect, rest = tokens[:at], tokens[at : at + 1], tokens[at + 1 :]
        if not redirect:
            if wanted:
                self._find(tokens[-1], "expected > PATH after the last stage", after=True)
            return commands, None
        if not wanted:
            self._find(redirect[0], "the output is given by output: as well; leave one of them out")
        elif not rest or rest[0].is_operator:
            self._find(redirect[0], "expected a path after >", after=True)
        elif not rest[0].value:
            self._find(rest[0], "the path after > is empty")
        self._nothing_follows(redirect[0], rest[1:])
        return commands, next(iter(rest), None)

    def _nothing_follows(self, redirect: Token, rest: Sequence[Token]) -> None:
        if any(token.is_operator and token.value == "|" for token in rest):
            self._find(
                redirect, "only the last stage has an output; for a copy in between use tee PATH as a stage"
            )
        elif rest and rest[0].is_operator:
            self._find(rest[0], "a task has one output; write a second task, or use tee PATH as a stage")
        elif rest:
            self._find(
                rest[0], f"expected the end of the line after the path, but {quoted(rest[0].source)} came"
            )

    def _split(self, tokens: Sequence[Token]) -> list[list[Token]]:
        stages: list[list[Token]] = [[]]
        for token in tokens:
            if token.is_operator:
                if not stages[-1]:
                    self._find(token, "expected a command before |")
                stages.append([])
            else:
                stages[-1].append(token)
        if tokens and not stages[-1]:
            self._find(tokens[-1], "expected a command after |", after=True)
        return stages

    def _stage(self, words: Sequence[Token]) -> Stage:
        self._check_program(words[0])
        argv = tuple(word.value for word in words)
        if argv[0].rpartition("/")[2] == "kubectl":
            self._check_kubectl(words)
        return Stage(argv, self._place(words[0].start), any(word.expanded for word in words))

    def _check_program(self, word: Token) -> None:
        name = quoted(word.source)
        if not word.value:
            self._find(word, "the name of the program is empty")
        elif word.bare in _RESERVED:
            self._find(
                word, f"{name} is part of the language of a shell; use bash -c '… {word.bare} …' as a stage"
            )
        elif word.bare.startswith("@"):
            self._find(word, f"directives stand before the pipeline; move {name} to the start of the line")
        elif _ASSIGNMENT.match(word.bare):
            self._find(word, f"{name} sets a variable, which needs a shell; write env {word.source} PROGRAM")
        elif word.bare.startswith("%"):
            self._find(word, f"{name} is a job of a shell, and there is none; quote the word")

    def _check_kubectl(self, words: Sequence[Token]) -> None:
        for word in words:
            if word.value == "--":
                return
            if _WATCH.fullmatch(word.value):
                self._find(word, f"{quoted(word.source)} never ends; put @watch before the pipeline instead")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    # difflib takes quadratic time.
    close = get_close_matches(word[:40], known, 1)
    return f" (did you mean {close[0]}?)" if close else ""
