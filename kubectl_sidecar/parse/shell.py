"""Split a text into words and operators as POSIX sh does, expand variables, and find what needs a shell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from kubectl_sidecar.errors import quoted, visible

_NAME = "[A-Za-z_][A-Za-z0-9_]*+"
_FD = rf"(?:[0-9]+|\{{{_NAME}\}})"
_END = r"(?![^ \t\n|&;<>()])"
_REDIRECT = rf"{_FD}?[<>]&(?:[0-9]+|-){_END}|{_FD}(?:<<[<-]?|[<>][&|<>]?)"
# Of each kind of operator: how it is written and, where a task cannot have it, what is wrong and a way out.
_OPERATORS = {
    "split": (rf"[|&;<>](?:\\\n)+[|&;<>(]|{_FD}(?:\\\n)+[<>]", "{} goes on in the next line; join it"),
    "blank": (r"<[A-Za-z][\w.-]*(?: [\w.-]+)*>(?!\w)", "{}: a placeholder? Replace it by what it stands for"),
    "quiet": (rf"2>(?:[ \t]|\\\n)*/dev/null{_END}", ""),
    "fd": (_REDIRECT, "{} redirects, but standard error goes to the log; leave it out, or write 2>/dev/null"),
    "group": (r"\(", "{} groups commands, which needs a shell; quote the word"),
    "append": (r">[>|&]|&>>?", "{}: an output is always replaced as a whole, without stderr; write > PATH"),
    "here": ("<<-?(?!<)", "{} reads the lines that follow, but a task is one line; put them into a file"),
    "join": (r"&&|\|\||\|&|;;|[&;]", "{} joins commands, but a task is one pipeline"),
    "read": (r"<<<|<[>&]?(?!\()", "{} reads a file into a stage; name the file in its words"),
    "stray": (r"\)", "{} is part of a shell's language, and nothing begins before it; quote the word"),
    "pipe": (r"\|", ""),
    "output": (r">(?!\()", ""),
}
# The same for each $, backtick or <( that is no variable.
_DOLLARS = {
    "left": (rf"\$\({_NAME}[\w.-]*\)", "Kubernetes left {} unexpanded; is {name} in the container's env?"),
    "parameter": (r"\$[0-9@*#?$!-]", "{} is a parameter of a script, and a task has none; use a variable"),
    "cut": (rf"\$(?:{_NAME})?\\\n", "a name goes on in the next line; write it in one, or as ${{NAME}}"),
    "brace": (r"\$\{", "only $NAME, ${{NAME}} and ${{NAME:-word}} are known, the word without quotes and $"),
    "command": (r"\$\(\(?|[<>]\(", "{} runs a command, which needs a shell"),
    "backtick": ("`", "a backtick runs a command, which needs a shell; write '`'"),
    "bash": (r"\$\[|\$(?=['\"])", "{} means something here in bash but not in sh; write '$'"),
}
# What is wrong with words.
_WORDS = {
    "language": "{} is part of a shell's language; quote the word",
    "assignment": "{} sets a variable of a shell; set it in the container's env",
    "tilde": "~ is a home directory in a shell; write the path, or '~'",
    "braces": "bash makes several words of these braces, sh does not; write the words or quote the braces",
    "bytes": "{} holds a NUL, a byte that is not UTF-8 or a byte order mark; save it without",
    "directive": "directives stand before the pipeline; move {} to the start of the line",
    "empty": '{} is empty, and sh drops an empty unquoted word; give it a value, or put "…" around it',
    "value": "the value of {part} is not UTF-8 text; no program can take it",
    "blanks": "the value of {part} holds blanks, of which sh makes several words"
    '; write "{part}", or a variable for each word',
}
_PATTERNS = _OPERATORS | _DOLLARS
_REFUSED = {kind: text for kind, (_, text) in _PATTERNS.items()} | _WORDS
_BEYOND_BASH = {"split", "blank", "append", "here", "stray", "parameter", "bytes", "directive", "value"}
# What bash can do, and so that it can be written in a line.
BASH = {*_REFUSED} - _BEYOND_BASH
_OPERATOR = re.compile("|".join(f"(?P<{kind}>{row[0]})" for kind, row in _OPERATORS.items()), re.ASCII)
_DOLLAR = re.compile("|".join(f"(?P<{kind}>{row[0]})" for kind, row in _DOLLARS.items()), re.ASCII)
# Where a command begins, a bare one of these begins a compound command, which ends with the other.
_COMPOUNDS = {"{": "}", "if": "fi", "case": "esac", "while": "done", "until": "done", "for": "done"}
_BEFORE_COMMAND = {"do", "then", "else", "elif", "if", "while", "until", "{", "!", "time"}
_RESERVED = re.compile(r"[!}]|time|\[\[|\]\]|coproc|do|done|elif|else|esac|fi|function|in|then")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[|\+?=)")

_NOT_TEXT = re.compile("[\0\ud800-\udfff]|^\ufeff")
_BLANKS = re.compile(r"(?:[ \t]|\\\n)*(?:#[^\n]*)?")
_COMMON = r"(?P<join>\\\n)|(?P<double>\")"
_OUTSIDE = re.compile(
    rf"{_COMMON}|(?P<dollar>[$`]|[<>](?=\())|(?P<escape>\\(?s:.))|(?P<single>'[^']*')"
    r"|(?P<plain>[^ \t\n|&;<>()'\"\\$`]+)"
)
_IN_DOUBLE = re.compile(rf"{_COMMON}|(?P<dollar>[$`])|(?P<escape>\\[$`\"\\])|(?P<plain>[^\"\\$`]+|\\)")
_DEFAULT = r"[^}'\"\\$`<>()|&;{~\0-\x1f\x7f]*"
_VARIABLE = re.compile(rf"\$(?:({_NAME})(?!(?:\\\n)+[A-Za-z0-9_])|\{{({_NAME})(?::-({_DEFAULT}))?\}})")
_TILDE = re.compile("(?:^|[=:])~")
_SEQUENCE = re.compile(r"\{(?:[+-]?[0-9]+\.\.[+-]?[0-9]+|[A-Za-z]\.\.[A-Za-z])(?:\.\.[+-]?[0-9]+)?\}")
_PAIRS_WITHOUT_COMMA = re.compile(r"[^{}]*(?:\{[^{},]*\}[^{}]*)*")
# What may open or close something in a part that bash has to read, by what closes that part.
_BRACKETS = {
    ")": re.compile(r"(?s)\\.|'[^']*(?:'|\Z)|\"|`|\$[({]|[()]"),
    "}": re.compile(r"(?s)\\.|\"|`|\$[({]|\}"),
    '"': re.compile(r"(?s)\\.|\"|`|\$[({]"),
    "`": re.compile(r"(?s)\\.|`"),
}
_CLOSING = {"(": ")", "$(": ")", "${": "}", '"': '"', "`": "`"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a task line cannot have."""

    at: int  # its offset in the text
    text: str  # what is wrong and, where that can be said in general, what to write instead
    kind: str = ""  # one of _REFUSED
    unset: str = ""  # the variable that is not set


@dataclass(slots=True)
class Token:
    """A word, an operator, or `> PATH`."""

    start: int
    source: str = ""
    kind: str = ""  # one of _OPERATORS; "newline" in a compound command; "loop"; "unclosed"; "" for a word
    value: str = ""  # what the program gets, or the path
    bare: str = ""  # what stands outside quotes, with \0 for each part that is quoted or expanded
    expanded: bool = False  # it holds the value of a variable, which no message may show
    unset: bool = False  # it holds a variable that is not set, as it is written, because that is allowed
    faults: list[Fault] = field(default_factory=list)

    def refuse(self, kind: str, part: str = "", at: int | None = None) -> None:
        """Note one more fault: of a part of it that is at an offset, or of all of it."""
        text = _REFUSED[kind].format(quoted(part or self.source), part=part, name=part[2:-1])
        self.faults.append(Fault(self.start if at is None else at, text, kind))


def written(tokens: Iterable[Token]) -> str:
    """Return the tokens as they were written, in one line."""
    return " ".join(token.source for token in tokens)


def faults(tokens: Iterable[Token]) -> list[Fault]:
    """Return what is wrong with the tokens."""
    return [fault for token in tokens for fault in token.faults]


class _Unclosed(Exception):
    """A quote or a bracket has no end; its arguments are its offset and what to say."""


class Reader:
    """Reads lines of tokens from a text."""

    def __init__(self, text: str, environ: Mapping[str, str], *, allow_unset: bool = False) -> None:
        """With `allow_unset` a variable that is not set is no fault."""
        self._text = text
        self._environ = environ
        self._allow_unset = allow_unset
        self._at = 0
        self._in_jq = False

    def lines(self) -> Iterator[list[Token]]:
        """Yield the tokens of each logical line that has some; reading ends at what is never closed."""
        while self._at < len(self._text):
            tokens: list[Token] = []
            self._in_jq = False
            try:
                self._read_line(tokens)
            except _Unclosed as error:
                self._at = len(self._text)
                tokens.append(Token(error.args[0], kind="unclosed", faults=[Fault(*error.args)]))
            if tokens:
                yield tokens

    def _read_line(self, tokens: list[Token]) -> None:
        # Of each compound command that is open: the index of its first token, and the word that ends it.
        compounds: list[tuple[int, str]] = []
        while following := self._next():
            if following != "\n":
                tokens.append(self._operator() or self._word())
                _begin_command(tokens, compounds)
                continue
            self._at += 1
            if compounds:
                tokens.append(Token(self._at - 1, "\n", "newline"))
            elif not tokens or tokens[-1].source not in ("|", "|&", "&&", "||"):
                return
        if compounds:
            first = tokens[compounds[0][0]]
            raise _Unclosed(first.start, f"this {quoted(first.source)} has no {compounds[0][1]}")

    def _next(self) -> str:
        """Skip blanks and return the next character; "" at the end."""
        if blanks := _BLANKS.match(self._text, self._at):
            self._at = blanks.end()
        return self._text[self._at : self._at + 1]

    def _operator(self) -> Token | None:
        found = _OPERATOR.match(self._text, self._at)
        if not found:
            return None
        start, kind, operator = self._at, str(found.lastgroup), found.group()
        self._at = found.end()
        self._in_jq &= kind not in ("pipe", "join")
        if kind == "group":
            self._pass_over(start, [")"])
        token = Token(start, self._text[start : self._at], "" if kind in ("group", "blank") else kind)
        if kind in ("output", "append", "read") or (kind == "fd" and operator[-1] in "<>&|"):
            nothing = Token(start, faults=[Fault(self._at, f"expected a path after {operator}")])
            token = nothing if self._next() in ("", "\n", *"|&;<>()") else self._word()
            token.kind = "output" if kind == "append" else kind
            token.source = f"{'>' if token.kind == 'output' else operator} {token.source}"
        if _REFUSED[kind]:
            token.refuse(kind, operator, start)
        return token

    def _pass_over(self, opened: int, closing: list[str]) -> None:
        """Go to the end of a part that only bash can read; `closing` is what must come, last one first."""
        while closing:
            found = _BRACKETS[closing[-1]].search(self._text, self._at)
            if not found:
                raise _Unclosed(opened, f"this {quoted(self._text[opened : self._at])} is never closed")
            self._at, bracket = found.end(), found.group()
            if bracket == closing[-1]:
                closing.pop()
            elif bracket in _CLOSING:
                closing.append(_CLOSING[bracket])

    def _word(self) -> Token:
        word, values, bare, opened = Token(self._at), list[str](), list[str](), -1
        while found := (_OUTSIDE if opened < 0 else _IN_DOUBLE).match(self._text, self._at):
            kind, piece = found.lastgroup, found.group()
            self._at = found.end()
            if kind == "double":
                opened = found.start() if opened < 0 else -1
            elif kind == "dollar":
                values.append(self._dollar(word, found.start(), double=opened >= 0))
            elif kind != "join":
                values.append({"escape": piece[1:], "single": piece[1:-1]}.get(str(kind), piece))
            bare.append(piece if kind == "plain" and opened < 0 else "" if kind == "join" else "\0")
        if opened >= 0 or self._text[self._at : self._at + 1] in ("'", "\\"):
            place = opened if opened >= 0 else self._at
            raise _Unclosed(place, f"this {self._text[place]} is never closed")
        word.source, word.value, word.bare = self._text[word.start : self._at], "".join(values), "".join(bare)
        self._in_jq |= word.value.rpartition("/")[2] == "jq"
        _check(word)
        return word

    def _dollar(self, word: Token, start: int, *, double: bool) -> str:
        """Return what a $, a backtick or a <( at `start` stands for."""
        if variable := _VARIABLE.match(self._text, start):
            self._at = variable.end()
            return self._variable(word, variable, double=double)
        found = _DOLLAR.match(self._text, start)
        if not found or (double and found.group() == "$"):
            return "$"
        self._at, kind, shown = found.end(), str(found.lastgroup), found.group()
        word.refuse(kind, shown, start)
        if kind in ("brace", "command", "backtick"):
            closing = {"brace": "}", "backtick": "`"}.get(kind, ")")
            self._pass_over(start, [closing] * max(1, shown.count("(")))
        return ""

    def _variable(self, word: Token, found: re.Match[str], *, double: bool) -> str:
        name, at, value = found[1] or found[2], found.start(), self._environ.get(found[1] or found[2])
        word.expanded |= bool(value)
        value = value or found[3] if found[3] is not None else value
        if value is None and self._allow_unset:
            word.unset = True
            return found.group()
        if value is None:
            way_out = f"is it in the container's env? ${{{name}:-word}} gives a default"
            if double and self._in_jq:
                way_out = "if it is a variable of jq, put the jq program in single quotes"
            word.faults.append(Fault(at, f"${name} is not set; {way_out}", unset=name))
        elif _NOT_TEXT.search(value):
            word.refuse("value", f"${name}", at)
        elif not double and re.search("[ \t\n]", value):
            word.refuse("blanks", found.group(), at)
        return value or ""


def _check(word: Token) -> None:
    """Note what is wrong with a word as a whole."""
    if not (word.value or word.faults or re.search("['\"]", word.source)):
        word.refuse("empty")
    if _NOT_TEXT.search(word.source):
        word.refuse("bytes")
    if _TILDE.search(word.bare):
        word.refuse("tilde")
    opened, closed = word.bare.find("{"), word.bare.rfind("}")
    has_comma = 0 <= opened < closed and "," in word.bare[opened:closed]
    if _SEQUENCE.search(word.bare) or (has_comma and not _PAIRS_WITHOUT_COMMA.fullmatch(word.bare)):
        word.refuse("braces")


def _begin_command(tokens: list[Token], compounds: list[tuple[int, str]]) -> None:
    """Look at the last token as a shell does where a command begins; make a compound command one token."""
    last, before = tokens[-1], tokens[-2] if len(tokens) > 1 else Token(0, "", "newline")
    begins = before.kind in ("join", "stray", "pipe", "newline")
    if not (begins or (compounds and before.bare in _BEFORE_COMMAND)):
        return
    if last.bare in _COMPOUNDS:
        compounds.append((len(tokens) - 1, _COMPOUNDS[last.bare]))
    elif compounds and last.bare == compounds[-1][1]:
        first, _ = compounds.pop()
        tokens[first:] = [_compound(tokens[first:])]
    elif _RESERVED.fullmatch(last.bare):
        last.refuse("language" if last.bare in ("!", "time", "[[") else "stray")
    elif last.bare.startswith("@") and len(tokens) > 1:
        last.refuse("directive")
    elif _ASSIGNMENT.match(last.bare):
        last.refuse("assignment")


def _compound(tokens: list[Token]) -> Token:
    """Return one token for a compound command; a loop that only repeats a task is no part of a line."""
    word = Token(tokens[0].start, written(tokens))
    if tokens[0].bare not in ("while", "until") or all(token.bare != "sleep" for token in tokens):
        word.refuse("language", tokens[0].source)
        return word
    commands = groupby(tokens, lambda token: token.source in (";", "\n"))
    lines = [written(command).removeprefix("do ") for is_end, command in commands if not is_end]
    kept = [line for line in lines if not re.match(r"(?:while|until|sleep|done|do)\b", line)]
    text = "a task is repeated by itself; leave out while, sleep and done, and keep:"
    text += "".join(f"\n        {visible(line)}" for line in kept)
    word.kind, word.faults = "loop", [Fault(word.start, text)]
    return word
