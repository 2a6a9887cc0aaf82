"""A line of words to a `Pipeline` of argv tuples, its output and its directives."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from kubectl_sidecar import refusals
from kubectl_sidecar.durations import parse_duration
from kubectl_sidecar.expansion import Token
from kubectl_sidecar.places import Finding, Position, Text, quoted
from kubectl_sidecar.words import Line

OnMissing = Literal["keep", "remove"]

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
    match text:
        case "keep" | "remove":
            return text
    raise ValueError(f"{quoted(text)} is neither keep nor remove; write one of them")


SETTINGS: dict[str, tuple[Callable[[str], object], str]] = {
    "every": (parse_duration, "a duration such as 30s"),
    "timeout": (parse_duration, "a duration such as 30s"),
    "mode": (parse_mode, "a file mode such as 0644"),
    "on_missing": (parse_on_missing, "keep or remove"),
}
"""For each setting with a value: how it is read, and what it is."""
_DIRECTIVES = {f"@{name.replace('_', '-')}": name for name in (*SETTINGS, "watch", "optional")}


class Parser:
    """One line of words to one pipeline; whatever is wrong with it goes to `findings`."""

    def __init__(self, line: Line, text: Text, findings: list[Finding]) -> None:
        self._line = line
        self._place = text.at
        self._findings = findings
        self._sound = True

    def parse(self, *, output: bool = True) -> Pipeline | None:
        """None if something is wrong; with `output` False it is given elsewhere and must not be here."""
        directives, tokens = self._directives(self._line.tokens)
        if self._line.broken:
            return None
        if not tokens:
            last = self._line.tokens[-1]
            self._find(last, "expected a pipeline after the directives, in the same line", after=True)
            return None
        commands, target = self._output(tokens, wanted=output)
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
            name = _DIRECTIVES.get(token.value)
            if not name:
                self._find(
                    token, f"{quoted(token.source)} is no directive; {suggested(token.value, _DIRECTIVES)}"
                )
                continue
            if name in given:
                self._find(token, f"{token.value} came before in this line; leave one of them out")
            given[name] = self._argument(token, name, rest) if name in SETTINGS else True
        return Directives(**given), rest[::-1]

    def _argument(self, directive: Token, name: str, rest: list[Token]) -> object:
        read, what = SETTINGS[name]
        if not rest or rest[-1].operator:
            self._find(directive, f"expected {what} after {directive.value}", after=True)
            return None
        word = rest.pop()
        try:
            return read(word.value)
        except ValueError as error:
            # The environment may hold secrets: show how the word was written, not what it became.
            text = f"the value of {quoted(word.source)} is not {what}" if word.expanded else str(error)
            self._find(word, f"{directive.value}: {text}")
            return None

    def _output(self, tokens: Sequence[Token], *, wanted: bool) -> tuple[Sequence[Token], Token | None]:
        """Split off `> PATH`."""
        at = next((index for index, token in enumerate(tokens) if token.operator == ">"), len(tokens))
        if at == len(tokens):
            if wanted and not tokens[-1].operator:
                self._find(tokens[-1], "expected > PATH after the last stage", after=True)
            return tokens, None
        redirect, *rest = tokens[at:]
        if not at:
            self._find(redirect, "expected a command before >")
        elif not wanted:
            self._find(redirect, "the output is given by output: as well; leave one of them out")
        elif not rest or rest[0].operator:
            self._find(redirect, "expected a path after >", after=True)
        elif any(token.operator == "|" for token in rest):
            self._find(
                redirect, "only the last stage has an output; for a copy in between use tee PATH as a stage"
            )
        elif len(rest) > 1:
            self._find(
                rest[1], f"expected the end of the line after the path, but {quoted(rest[1].source)} came"
            )
        return tokens[:at], next(iter(rest), None)

    def _split(self, tokens: Sequence[Token]) -> list[list[Token]]:
        stages: list[list[Token]] = [[]]
        for token in tokens:
            if token.operator:
                if not stages[-1]:
                    self._find(
                        token, "expected a command before |; to go on in a new line, end the old one with |"
                    )
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
        if not word.value:
            self._find(word, "expected a program, but its name is empty")
        elif refused := refusals.refused_program(word.bare, quoted(word.source)):
            self._find(word, refused)

    def _check_kubectl(self, words: Sequence[Token]) -> None:
        for word in words:
            if word.value == "--":
                return
            if _WATCH.fullmatch(word.value):
                self._find(word, f"{quoted(word.source)} never ends; put @watch before the pipeline instead")


def suggested(word: str, known: Collection[str]) -> str:
    # difflib takes quadratic time.
    close = get_close_matches(word[:40], known, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
