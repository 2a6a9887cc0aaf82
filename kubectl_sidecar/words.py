"""Text to lines of shell words and operators: what POSIX sh would make of it, or a finding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kubectl_sidecar import refusals
from kubectl_sidecar.expansion import Token, Unfinished, WordReader
from kubectl_sidecar.places import Finding, Text, quoted

_BLANKS = re.compile(r"(?:[ \t]|\\\n)*(?:#[^\n]*)?")
_IO_NUMBER = re.compile(r"[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\}")
_TILDE = re.compile("(?:^|[=:])(~)")
_SEQUENCE = re.compile(r"\{(?:[+-]?[0-9]+\.\.[+-]?[0-9]+|[A-Za-z]\.\.[A-Za-z])(?:\.\.[+-]?[0-9]+)?\}")
_BRACE = re.compile(r"[{},]|\.\.(?!\})")


@dataclass(slots=True)
class Line:
    """One logical line."""

    tokens: list[Token] = field(default_factory=list)
    broken: bool = False
    """Something was refused that leaves its structure unknown."""
    unfinished: bool = False
    """A quote in it was never closed."""


class Tokenizer:
    def __init__(self, text: Text, environ: Mapping[str, str], findings: list[Finding]) -> None:
        self._place = text.at
        self._text = text.text
        self._findings = findings
        self._reader = WordReader(text.text, environ, self._find)
        self._line = Line()

    def lines(self) -> Iterator[Line]:
        while self._reader.at < len(self._text):
            self._line = Line()
            self._reader.start_line()
            known = len(self._findings)
            try:
                self._read_line()
            except Unfinished as error:
                self._give_up(error, known)
            if self._line.tokens or self._line.broken:
                yield self._line

    def _give_up(self, error: Unfinished, known: int) -> None:
        """What was found behind a quote that never closes was not meant."""
        place = self._place(error.opened)
        before = [finding for finding in self._findings[known:] if finding[0].is_before(place)]
        self._findings[known:] = [*before, (place, error.text)]
        self._line.broken = self._line.unfinished = True
        self._reader.at = error.resume

    def _find(self, offset: int, text: str, *, structural: bool = False) -> None:
        # Past a refused operator the structure of the line is guesswork: a second one would be noise.
        if structural and self._line.broken:
            return
        self._findings.append((self._place(offset), text))
        self._line.broken |= structural

    def _read_line(self) -> None:
        reader = self._reader
        while True:
            if blanks := _BLANKS.match(self._text, reader.at):
                reader.at = blanks.end()
            if reader.at >= len(self._text):
                return
            if self._text[reader.at] == "\n":
                reader.at += 1
                if not (self._line.tokens and self._line.tokens[-1].operator == "|"):
                    return
            elif operator := refusals.OPERATOR.match(self._text, reader.at):
                self._operator(operator)
            else:
                word = reader.read()
                self._check_word(word)
                self._line.tokens.append(word)

    def _operator(self, found: re.Match[str]) -> None:
        self._reader.at = found.end()
        operator = found.group().replace("\\\n", "")
        last = self._line.tokens[-1] if self._line.tokens else None
        if last and self._numbers(last, found):
            both = last.bare + operator
            self._find(last.start, refusals.refused_descriptor(both, quoted(both)), structural=True)
        elif refused := refusals.refused_operator(operator, quoted(operator)):
            self._find(found.start(), refused, structural=True)
        else:
            self._line.tokens.append(Token(operator, found.start(), operator, operator=operator))
            self._reader.in_jq &= operator != "|"

    def _numbers(self, last: Token, operator: re.Match[str]) -> bool:
        """Whether the word before `>` or `<` is a file descriptor, as in `2>`."""
        touches = last.start + len(last.source) == operator.start() and operator.group()[0] in "<>"
        return touches and bool(_IO_NUMBER.fullmatch(last.bare))

    def _check_word(self, word: Token) -> None:
        first = not self._line.tokens or self._line.tokens[-1].operator == "|"
        if first and (keyword := refusals.refused_keyword(word.bare, quoted(word.source))):
            # Not left to the parser: what belongs to it, as the ; of { …; }, would be found first.
            self._find(word.start, keyword, structural=True)
        if tilde := _TILDE.search(word.bare):
            self._find(word.place(tilde.start(1)), refusals.TILDE)
        brace = brace_expansion(word.bare)
        if brace is not None:
            self._find(word.place(brace), refusals.BRACES)


def brace_expansion(bare: str) -> int | None:
    """Find the brace that bash would expand: a comma or a sequence stands at its level."""
    # A level: its open brace, if one still looks for its end, and whether a separator came since.
    levels: list[tuple[int | None, bool]] = [(None, False)]
    last_comma = -1
    for found in _BRACE.finditer(bare):
        start, separated = levels[-1]
        if found.group() == "{":
            levels.append((found.start(), False))
        elif found.group() != "}":
            levels[-1] = (start, start is not None)
            last_comma = found.start() if found.group() == "," else last_comma
        elif start is not None:
            if separated and (last_comma > start or _SEQUENCE.match(bare, start)):
                return start
            levels.pop()
            levels = levels or [(None, False)]
            if not separated and levels[-1][0] is None:
                # bash passes over an end that follows no separator, and goes on looking for another.
                levels[-1] = (start, False)
    return None
