"""Where a piece of text stands in its file, and how an error shows the place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Protocol

from kubectl_sidecar.errors import Problem

_SHOWN = 160
_QUOTED = 60
# Control, direction and invisible characters and halves of surrogates must not reach a terminal raw.
_UNSAFE = re.compile(
    "[\0-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Position:
    """A character of a file; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    text: str = field(default="", repr=False)
    """The line it stands in."""

    def __str__(self) -> str:
        return f"{visible(self.file)}:{self.line}:{self.column}" if self.line else visible(self.file)

    def is_before(self, other: Position) -> bool:
        return (self.line, self.column) < (other.line, other.column)

    def problem(self, text: str) -> Problem:
        start = max(0, min(self.column - 1 - _SHOWN // 2, len(self.text) - _SHOWN))
        shown = visible(self.text[start : start + _SHOWN])
        if start:
            shown = "…" + shown[1:]
        if start + _SHOWN < len(self.text):
            shown = shown[:-1] + "…"
        return Problem(str(self), text, shown, self.column - start)


Finding = tuple[Position, str]


class Find(Protocol):
    """Takes what is wrong at an offset; `structural` if the rest of the line means nothing then."""

    def __call__(self, offset: int, text: str, *, structural: bool = False) -> None: ...


class Text:
    """A text to be read, and where each of its characters stands in the file it came from."""

    def __init__(self, text: str, start: Position, lines: Sequence[str] = (), *, column: int = 0) -> None:
        """The text starts in the line of `start`; each of its lines starts after `column` characters."""
        own = text.split("\n")
        self.text = text
        self.lines = lines or own
        self._start = start
        self._column = column
        self._offsets = [0, *accumulate(len(line) + 1 for line in own)][:-1]

    def at(self, offset: int) -> Position:
        row = bisect_right(self._offsets, offset) - 1
        line = min(self._start.line + row, len(self.lines))
        column = self._column + offset - self._offsets[row] + 1
        return Position(self._start.file, line, column, self.lines[line - 1])


class Unplaced(Text):
    """A text that YAML changed: all of it stands where it starts."""

    def at(self, offset: int) -> Position:  # noqa: ARG002
        return self._start


def indented(value: str, start: Position, lines: Sequence[str], *, block: bool, quotes: bool) -> Text:
    """Find each line of a YAML value in the lines of its file, if YAML only took their indentation."""
    own = value.split("\n")
    first, column = start.line - 1 + block, start.column - 1 + quotes
    if block:
        row = next((row for row, line in enumerate(own) if line), 0)
        column = len("".join(lines[first + row : first + row + 1])) - len(own[row])
    same = zip(own, lines[first : first + len(own)], strict=False)
    if column >= 0 and all(text[column : column + len(line)] == line for line, text in same):
        return Text(value, replace(start, line=first + 1), lines, column=column)
    return Unplaced(value, start)


def visible(text: str) -> str:
    """The same number of characters, each safe to print."""
    return _UNSAFE.sub(lambda found: _picture(ord(found.group())), text)


def _picture(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def quoted(text: str) -> str:
    """A word inside a message: safe to print, in one line and short."""
    clipped = text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
    return f"`{visible(clipped)}`"
