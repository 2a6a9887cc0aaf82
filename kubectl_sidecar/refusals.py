"""What sh knows and a task line does not, and the way out of each."""

from __future__ import annotations

import re

_ONE = "{0} joins commands, but a task is one pipeline; use bash -c '… {1} …' as a stage"
_READ = "{0} reads a file into a stage; name the file in its words, or use bash -c '… {1} …'"
_STDERR = "{0} redirects, but standard error goes to the log; leave it out, or use bash -c '… {1} …'"
_GROUP = "{0} groups commands, which needs a shell; quote the word, or use bash -c '…' as a stage"
_OPERATORS = {
    "<<<": _READ,
    "<<-": _READ,
    "<<": _READ,
    "<>": _READ,
    "<&": _READ,
    "<(": _GROUP,
    ">>": "{0} appends, but an output is always replaced as a whole; write > PATH",
    ">&": _STDERR,
    ">|": "{0} overrides a setting of a shell, and there is none; write > PATH",
    ">(": _GROUP,
    "&>>": _STDERR,
    "&>": _STDERR,
    "&&": _ONE,
    "||": _ONE,
    "|&": "{0} sends standard error down the pipe; write |, or use bash -c '… 2>&1' as a stage",
    ";;": _ONE,
    "((": _GROUP,
    "<": _READ,
    "&": _ONE,
    ";": _ONE,
    "(": _GROUP,
    ")": _GROUP,
}
# sh joins lines before it looks for operators: one may be split by a \ at the end of a line.
OPERATOR = re.compile("|".join(r"(?:\\\n)*".join(map(re.escape, text)) for text in (*_OPERATORS, "|", ">")))

_DOLLARS = {
    "$((": "$((…)) is arithmetic, which needs a shell; use bash -c '…' as a stage",
    "$(": "$(…) runs a command, which needs a shell; use bash -c '…' as a stage",
    "$[": "$[ is arithmetic in bash but not in sh; write '$['",
    "${": "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    "$'": "$'…' means something in bash only; write the characters themselves in '…'",
    '$"': '$"…" means something in bash only; write "…"',
    "$\\": "a line ends between $ and what follows; put them in one line, or write '$'",
}
_DOLLAR = re.compile(r"\$(?:\(\(|[(\[{'\"]|\\(?=\n))")
_PARAMETER = re.compile(r"\$[0-9@*#?$!-]")
_KUBERNETES = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
BACKTICK = "a backtick runs a command, which needs a shell; use bash -c '…' as a stage, or write '`'"
BARE_DEFAULT = "shells differ about {} in a default word; put the word in double quotes"
DOUBLE_DEFAULT = "shells differ about {} in a default word that is in double quotes; leave it out"
LAST_BACKSLASH = r"the text ends with a backslash; remove it, or write '\'"
TILDE = "~ is a home directory in a shell; write the path, or '~'"
BRACES = "bash makes several words of these braces, sh does not; write the words or quote the braces"

_RESERVED = re.compile(
    r"[!{}]|\[\[|\]\]|case|coproc|do|done|elif|else|esac|fi|for|function|if|in|select|then|time|until|while"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[|\+?=)")


def refused_operator(operator: str, shown: str) -> str | None:
    text = _OPERATORS.get(operator)
    return text and text.format(shown, operator)


def refused_descriptor(redirection: str, shown: str) -> str:
    return _STDERR.format(shown, redirection)


def refused_dollar(text: str, at: int, *, double: bool) -> str | None:
    """What is wrong with the `$` at `at`, which starts no variable; None if it is a plain character."""
    if left := _KUBERNETES.match(text, at):
        asked = f"is {left[1]} in the container's env? (a command needs bash -c '…')"
        return f"Kubernetes left this unexpanded; {asked}"
    if parameter := _PARAMETER.match(text, at):
        return (
            f"{parameter.group()} is a parameter of a shell, and there is none; write '{parameter.group()}'"
        )
    dollar = _DOLLAR.match(text, at)
    if not dollar or (double and dollar.group() in ("$'", '$"')):
        return None
    return _DOLLARS[dollar.group()]


def refused_keyword(bare: str, shown: str) -> str | None:
    if _RESERVED.fullmatch(bare):
        return f"{shown} is part of a shell's language; quote the word, or use bash -c '… {bare} …'"
    return None


def refused_program(bare: str, shown: str) -> str | None:
    """What is wrong with the first word of a stage, of which `bare` stands outside quotes."""
    if keyword := refused_keyword(bare, shown):
        return keyword
    if bare.startswith("@"):
        return f"directives stand before the pipeline; move {shown} to the start of the line"
    if _ASSIGNMENT.match(bare):
        return f"{shown} sets a variable, which needs a shell; write env before it"
    if bare.startswith("%"):
        return f"{shown} is a job of a shell, and there is none; quote the word"
    return None
