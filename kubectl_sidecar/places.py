"""Where a piece of text stands in its file, and how an error shows the place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from kubectl_sidecar.errors import Problem

_SHOWN = 160
_QUOTED = 60
# Control, direction and invisible characters and halves of surrogates would reach a terminal raw; tabs are harmless.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
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

    def problem(self, text: str) -> Problem:
        if not self.line:
            return Problem(str(self), text)
        start = max(0, min(self.column - 1 - _SHOWN // 2, len(self.text) - _SHOWN))
        shown = visible(self.text[start : start + _SHOWN])
        if start:
            shown = "…" + shown[1:]
        if start + _SHOWN < len(self.text):
            shown = shown[:-1] + "…"
        return Problem(str(self), text, shown, self.column - start)


Finding = tuple[Position, str]


class Text:
    """A text to be read, and where each of its characters stands in the file it came from."""

    def __init__(self, text: str, origin: Position, shown: Sequence[str] = (), *, column: int = 0) -> None:
        """`origin` is the file and the line the text starts in; every line of it starts `column` characters in."""
        self.text = text
        self._origin = origin
        lines = text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in lines)][:-1]
        self.lines = shown or lines
        self._column = column

    def at(self, offset: int) -> Position:
        row = bisect_right(self._starts, offset) - 1
        line = self._origin.line + row
        return Position(
            self._origin.file,
            line,
            self._column + offset - self._starts[row] + 1,
            self.lines[min(line, len(self.lines)) - 1],
        )


class Fixed(Text):
    """A text whose characters cannot be told apart in the file: all of it stands where it starts."""

    def at(self, offset: int) -> Position:
        return self._origin


def visible(text: str) -> str:
    """The same number of characters, each safe to print."""
    return _UNSAFE.sub(lambda found: _picture(ord(found.group())), text)


def _picture(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def quoted(text: str) -> str:
    """A word inside a message: safe to print, in one line and short."""
    clipped = text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
    return f"`{visible(clipped)}`"
