"""What is wrong, where, and how it is said to people.

SidecarError
├── InvalidInput      flags or tasks are wrong: every Problem of them, before anything runs
└── RefreshFailed     one refresh did not fully succeed; the output stays as it was
    └── NotFound      the server says that the object does not exist
Stopping              the work is to end; no failure, and no Exception that a retry could take for one
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate

_SHOWN = 160
_QUOTED = 60
# Control, direction and invisible characters and halves of surrogates must not reach a terminal raw.
_UNSAFE = re.compile(
    "[\0-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return the same number of characters, each safe to print."""
    return _UNSAFE.sub(lambda found: _picture(ord(found.group())), text)


def _picture(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def quoted(text: str) -> str:
    """Show a word inside a message: safe to print, in one line, and short."""
    clipped = text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
    return f"`{visible(clipped)}`"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A character of a file, of an inline LINE or of a flag; line 0 is all of it."""

    file: str
    # 1-based.
    line: int = 0
    # 1-based, counted in characters; 0 when there is no place in the line to point at.
    column: int = 0
    # The line it stands in.
    text: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        place = f":{self.line}" * bool(self.line) + f":{self.column}" * bool(self.column)
        return visible(self.file) + place


def positions(text: str, file: str) -> Callable[[int], Position]:
    """Return what tells where the character at an offset of a text stands in its file."""
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]

    def at(offset: int) -> Position:
        row = bisect_right(starts, min(offset, len(text))) - 1
        return Position(file, row + 1, offset - starts[row] + 1, lines[row])

    return at


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input: where, and what was expected, what came, how out of it."""

    where: Position
    text: str

    def __str__(self) -> str:
        """Return the message and, where there is a place to point at, its line with a caret under it."""
        message = f"{self.where}: {self.text}"
        if not self.where.column:
            return message
        line, place = self.where.text, self.where.column - 1
        # Of a long line the part around the place is shown.
        start = max(0, min(place - _SHOWN // 2, len(line) - _SHOWN))
        shown = visible(line[start : start + _SHOWN])
        if start:
            shown = "…" + shown[1:]
        if start + _SHOWN < len(line):
            shown = shown[:-1] + "…"
        # Tabs are kept in the padding, so that the caret stands under its character at any tab width.
        padding = re.sub(r"[^\t]", " ", shown[: place - start])
        return f"{message}\n    {shown}\n    {padding}^"


class SidecarError(Exception):
    """A failure that the program expects; its text is for people."""


class InvalidInput(SidecarError):
    """Bad flags or tasks: every problem of every input, reported in one go (exit status 2)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RefreshFailed(SidecarError):
    """One refresh did not fully succeed; the output stays as it was."""


class NotFound(RefreshFailed):
    """The server says that the object, or its namespace, does not exist: @on-missing may call it fine."""


class Stopping(BaseException):
    """The work is to end. Not an Exception, so that no retry takes it for a failed attempt."""
