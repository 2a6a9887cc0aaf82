"""One shell word: its quotes, its variables, and what of it stands bare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kubectl_sidecar import refusals
from kubectl_sidecar.places import Find, quoted

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_PLAIN = re.compile(r"[^ \t\n|&;<>()'\"\\$`]+")
_PLAIN_DOUBLE = re.compile(r"[^\"\\$`]+")
# A default word may hold more in sh, but by rules that hardly anybody knows and no two shells share.
_PLAIN_DEFAULT = re.compile(r"[^}'\"\\$`<>()|&;\n{~]+")
_PLAIN_DOUBLE_DEFAULT = re.compile(r"(?:[^}'\"\\$`<>]|[<>](?!\())+")
_NESTED_QUOTES = re.compile(r"\"([A-Za-z0-9 _/@%+-]*)\"")
_VARIABLE = re.compile(rf"\$(?:({_NAME})|\{{({_NAME})(\}}|:-))")
_NAME_GOES_ON = re.compile(r"(?:\\\n)+[A-Za-z0-9_]")
_REST_OF_LINE = re.compile(r"[^\n]*")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_MOST_NESTED = 20
# Where a lost quote must have ended: no line inside a quoted jq program starts like this.
_TASK = re.compile(r"(?m)^[ \t]*(?:kubectl|@(?:every|watch|timeout|mode|on-missing|optional))(?=[ \t])")


class Unfinished(Exception):
    """A word has no end; reading can go on at `resume`."""

    def __init__(self, opened: int, text: str, resume: int) -> None:
        self.opened = opened
        self.text = text
        self.resume = resume


@dataclass(frozen=True, slots=True)
class Token:
    """A word, or one of the operators `|` and `>`."""

    value: str
    start: int
    source: str
    pieces: tuple[tuple[str, int], ...] = ()
    """What stands outside quotes and where, piece by piece; "\\0" for each quoted or expanded part."""
    operator: str = ""

    @property
    def bare(self) -> str:
        return "".join(piece for piece, _ in self.pieces)

    @property
    def expanded(self) -> bool:
        """Whether it may hold a value from the environment, which no message may show."""
        return self.value != self.source and "$" in self.source

    def place(self, index: int) -> int:
        """The offset of the character `index` of `bare`."""
        for piece, offset in self.pieces:
            if index < len(piece):
                return offset + index
            index -= len(piece)
        return self.start


class WordReader:
    """Reads words at `at`. Whatever sh would do by other means is told to `find`."""

    def __init__(self, text: str, environ: Mapping[str, str], find: Find) -> None:
        self.at = 0
        self.in_jq = False
        self._text = text
        self._environ = environ
        self._find = find
        self._depth = 0
        self._active = True
        self._swallowed: Unfinished | None = None
        self._parts = {
            "'": self._single,
            '"': self._double,
            "\\": self._escape,
            "$": self._dollar,
            "`": self._backtick,
        }

    def start_line(self) -> None:
        self.in_jq = False
        self._depth = 0
        self._active = True
        self._swallowed = None

    def read(self) -> Token:
        start, values, pieces = self.at, list[str](), list[tuple[str, int]]()
        while (offset := self.at) < len(self._text):
            if plain := self._take(_PLAIN):
                values.append(plain)
                pieces.append((plain, offset))
            elif self._text.startswith("\\\n", offset):
                self.at += 2
            elif part := self._parts.get(self._text[offset]):
                values.append(part())
                pieces.append(("\0", offset))
            else:
                break
        token = Token("".join(values), start, self._text[start : self.at], tuple(pieces))
        self.in_jq |= token.value.rpartition("/")[2] == "jq"
        return token

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self.at)
        if not found:
            return ""
        self.at = found.end()
        return found.group()

    def _escape(self) -> str:
        following = self._text[self.at + 1 : self.at + 2]
        if not following:
            self._find(self.at, refusals.LAST_BACKSLASH, structural=True)
        self.at += 2
        return "" if following == "\n" else following

    def _single(self) -> str:
        opened = self.at
        closed = self._text.find("'", opened + 1)
        if closed < 0:
            raise self._unfinished(opened, "'")
        self._close(opened, "'", closed + 1)
        return self._text[opened + 1 : closed]

    def _double(self) -> str:
        opened, values = self.at, list[str]()
        self.at += 1
        while self.at < len(self._text):
            if plain := self._take(_PLAIN_DOUBLE):
                values.append(plain)
            elif self._text[self.at] == '"':
                self._close(opened, '"', self.at + 1)
                return "".join(values)
            else:
                values.append(self._part_of_double('$`"\\'))
        raise self._unfinished(opened, '"')

    def _part_of_double(self, escapable: str) -> str:
        if self._text[self.at] == "$":
            return self._dollar(double=True)
        if self._text[self.at] == "`":
            return self._backtick()
        following = self._text[self.at + 1 : self.at + 2]
        if following == "\n" or (following and following in escapable):
            return self._escape()
        self.at += 1
        return "\\"

    def _backtick(self) -> str:
        self._find(self.at, refusals.BACKTICK, structural=True)
        self.at += 1
        return ""

    def _dollar(self, *, double: bool = False) -> str:
        if variable := _VARIABLE.match(self._text, self.at):
            return self._variable(variable, double=double)
        message = refusals.refused_dollar(self._text, self.at, double=double)
        if message:
            self._find(self.at, message, structural=True)
        self.at += 1
        return "$"

    def _variable(self, found: re.Match[str], *, double: bool) -> str:
        offset, self.at = self.at, found.end()
        name = found[1] or found[2]
        if found[1] and _NAME_GOES_ON.match(self._text, self.at):
            self._find(
                self.at,
                f"the name ${name} goes on in the next line; put it in one, or write ${{{name}}}",
            )
            return ""
        value = self._environ.get(name)
        if found[3] == ":-":
            default = self._default(offset, double=double, active=self._active and not value)
            value = value or default
        if not self._active:
            return ""
        if value is None:
            self._find(offset, self._unset(name, double=double))
        elif _UNUSABLE.search(value):
            self._find(offset, f"the value of ${name} is not UTF-8 text; no program can be given it")
        return value or ""

    def _unset(self, name: str, *, double: bool) -> str:
        if double and self.in_jq:
            return f"${name} is not set; if it is a variable of jq, put the jq program in single quotes"
        return f"${name} is not set; is it in the container's env? ${{{name}:-word}} gives a default"

    def _default(self, opened: int, *, double: bool, active: bool) -> str:
        """Read the `word}` of `${NAME:-word}`."""
        was_active, self._active = self._active, active
        self._depth += 1
        if self._depth > _MOST_NESTED:
            self._take(_REST_OF_LINE)
            raise Unfinished(opened, f"${{…}} is nested over {_MOST_NESTED} deep; simplify it", self.at)
        values = list[str]()
        while self.at < len(self._text):
            if self._text[self.at] == "}":
                self._close(opened, "${", self.at + 1)
                self._depth -= 1
                self._active = was_active
                return "".join(values)
            values.append(self._part_of_double_default() if double else self._part_of_default(opened))
        raise self._unfinished(opened, "${")

    def _part_of_default(self, opened: int) -> str:
        if plain := self._take(_PLAIN_DEFAULT):
            return plain
        character = self._text[self.at]
        if character == "\n":
            raise self._swallowed or Unfinished(
                opened, "this ${ is not closed in its line; add the }", self.at
            )
        part = self._parts.get(character)
        # bash uses \x01 itself, and trips over an escaped one here.
        if part and not self._text.startswith("\\\x01", self.at):
            return part()
        self._find(self.at, refusals.BARE_DEFAULT.format(quoted(character)), structural=True)
        self.at += 1
        return character

    def _part_of_double_default(self) -> str:
        if plain := self._take(_PLAIN_DOUBLE_DEFAULT):
            return plain
        if nested := self._take(_NESTED_QUOTES):
            return nested[1:-1]
        character = self._text[self.at]
        # Here, unlike elsewhere in double quotes, bash takes $"…" for a text to translate.
        if character in "$`\\" and not self._text.startswith('$"', self.at):
            return self._part_of_double('$`"\\}')
        self._find(self.at, refusals.DOUBLE_DEFAULT.format(quoted(character)), structural=True)
        self.at += 1
        return character

    def _close(self, opened: int, what: str, end: int) -> None:
        self.at = end
        if not self._swallowed and (task := _TASK.search(self._text, opened, end)):
            self._swallowed = Unfinished(
                opened, f"this {what} is open when the next task starts; close it", task.start()
            )

    def _unfinished(self, opened: int, what: str) -> Unfinished:
        self._close(opened, what, len(self._text))
        return self._swallowed or Unfinished(opened, f"this {what} is never closed", self.at)
