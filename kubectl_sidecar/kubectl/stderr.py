"""What the stages said when they failed, to one line for people: no data in it, a way out if there is one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from kubectl_sidecar.errors import NotFound, RefreshFailed
from kubectl_sidecar.kubectl.get import invoked
from kubectl_sidecar.kubectl.rule import PATHS, Rule
from kubectl_sidecar.process.pipeline import CUT, Ended, status_text

# Characters of what one program said that go into a log line: the last ones, where it says why it ended.
_LONGEST = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_KLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")
# What jq 1.8.2 and kubectl 1.37.1 say may quote the values that they failed on: secrets. These are all the
# places in their sources that do; jq's error("...") and halt_error are not among them, they say what the
# author wants said.
_WITHOUT_DATA = [
    (re.compile(pattern), instead)
    for pattern, instead in [
        ("(?s)Printing more information for debugging the template:.*", ""),
        (r"(?s)\A.*(?= is not array or slice and cannot be filtered)", "…"),
        (r"(?s)\(while parsing '.*", "(while parsing …)"),
        (r'(?s)\bdate ".*" does not match format ".*"', 'date "…" does not match format "…"'),
        (r"(?s)(\(at [^)]*\): ).*( is not a valid (?:format|modifier string))", r"\1…\2"),
        (r"(?s)(Regex failure: [^<]*<).*", r"\1…>"),
        (r"\b(null|boolean|number|string|array|object) \(.*\)", r"\1 (…)"),
        (r"\(not a string\): .*", "(not a string): …"),
        (r"(Invalid path expression (?:with|near attempt to) [a-z ]+) .*", r"\1 …"),
        (r'\["DEBUG:",.*', '["DEBUG:",…]'),
        # User names and passwords in URLs. kubectl quotes what is no valid URL as well: the password may hold
        # blanks, the scheme may be missing.
        (r"""('proxy-url' "|host:port pair: "|parse ").*@""", r"\1"),
        (r'invalid port ".*" after host', 'invalid port "…" after host'),
        (r"//\S*@", "//"),
        (r"(?i)%2F%2F\S*%40", "%2F%2F"),
    ]
]
# What kubectl says when the token file is empty, or holds no token.
_NO_TOKEN = re.compile(r'(?m)^error: EOF$|invalid header field value for "Authorization"')
_NO_CREDENTIALS = "no credentials: is the token file empty?"
_SURE = ("Error from server (", "The connection to the server ", "Unable to connect to the server: ")
_IS_NO_ERROR = re.compile(rf"Warning: |{_KLOG.pattern}")
_NOT_FOUND = re.compile(r'Error from server \(NotFound\): (\S+) "([^"]+)" not found')
_STALE = re.compile("(?m)^[Ee]rror.*(?:could not find the requested resource|doesn't have a resource type)")
_WATCH_REFUSED = re.compile(
    r"(?m)^Error from server \((?:Forbidden|MethodNotAllowed|BadRequest|TooManyRequests)\)"
    r"|^Error from server .*could not find the requested resource|^error: (?:you may only |watch is only )"
)
_FORBIDDEN = re.compile(
    r' cannot (?P<verb>\S+) (?:path "(?P<path>[^"]*)"|resource "(?P<resource>[^"]*)"'
    r' in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?)'
)
_FORBIDDEN_NAME = re.compile(r'\(Forbidden\): \S+ "(?P<name>[^"]*)" is forbidden')


def failure(ended: Ended) -> RefreshFailed:
    """Return the exception that says in one line why a pipeline failed: NotFound or RefreshFailed."""
    failed, stages = ended.failed(), list(zip(ended.argvs, ended.statuses, ended.stderrs, strict=True))
    # kubectl exits with 1 and says nothing when it is ended because a later stage has failed.
    spoke = [i for i in failed if ended.stderrs[i] or _program(ended.argvs[i]) != "kubectl"] or failed
    if 0 in failed and _hint(*stages[0]) == _NO_CREDENTIALS:
        spoke = [0]  # kubectl has asked for a user name, on stdout, and the others have failed on that
    reason = "; ".join(_stage_reason(*stages[i]) for i in spoke)
    if 0 in failed and _names_what_is_missing(ended.argvs[0], ended.stderrs[0]):
        return NotFound(reason)
    return RefreshFailed(reason)


def said(ended: Ended) -> str:
    """Return what the programs said on stderr, behind a colon in one line; empty when they said nothing."""
    texts = [one_line(text, _program(argv)) for argv, text in zip(ended.argvs, ended.stderrs, strict=True)]
    return ": " * any(texts) + "; ".join(filter(None, texts))


def one_line(stderr: str, program: str = "kubectl") -> str:
    """Return a program's stderr in one line, without control characters and without the data it may quote."""
    cut = stderr.startswith(CUT)
    for pattern, instead in _WITHOUT_DATA:
        stderr = pattern.sub(instead, stderr)
    lines = stderr.splitlines()
    if cut and program in ("jq", "kubectl"):
        # They only say so much when they quote data, and what marks it as such is what was cut off.
        lines = ["…", *(line for line in lines if line.startswith(_SURE))]
    # kubectl tries discovery five times, and logs each of them before it says what is wrong.
    plain = [line for line in lines if not _KLOG.match(line)] or lines
    words = " / ".join(_CONTROL.sub(" ", line).strip() for line in plain if line.strip())
    words = words if len(words) <= _LONGEST else "… " + words[-_LONGEST:]
    return words.encode(errors="replace").decode()


def missing_rule(stderr: str) -> str | None:
    """Return the rule that the API server's Forbidden names, as text for the `rules:` of a Role."""
    if not (match := _FORBIDDEN.search(stderr)):
        return None
    name = _FORBIDDEN_NAME.search(stderr)
    rule = Rule(
        namespace=match["namespace"] or "",
        group=PATHS if match["path"] else match["group"],
        resources=(match["path"] or match["resource"],),
        names=(name["name"],) if name else (),
        verbs=(match["verb"],),
    )
    return rule.with_place()


def is_stale_discovery(stderr: str) -> bool:
    """Tell whether kubectl asked for what the server does not serve: its discovery cache may be too old."""
    return bool(_STALE.search(stderr))


def refuses_watch(stderr: str) -> bool:
    """Tell whether the server answered that what a watch needs is not to be had, at least for now."""
    return bool(_WATCH_REFUSED.search(stderr))


def _program(argv: Sequence[str]) -> str:
    return os.path.basename(argv[0])


def _names_what_is_missing(argv: Sequence[str], stderr: str) -> bool:
    """Tell whether kubectl says that the object or its namespace does not exist, and nothing else is wrong.

    A proxy's 404 page or a type that is not served names no object: `the server could not find …`.
    """
    if invoked(argv) != "kubectl get":
        return False
    # Of several names each has its own error, and not every kind of error has a mark at its beginning. Where
    # something was cut off, CUT is such a line.
    errors = [line for line in stderr.splitlines() if line.strip() and not _IS_NO_ERROR.match(line)]
    named = [_NOT_FOUND.fullmatch(error) for error in errors]
    asked = {name for word in argv for name in word.split("/")}
    return bool(named) and all(one and (one[2] in asked or one[1] == "namespaces") for one in named)


def _stage_reason(argv: Sequence[str], status: int, stderr: str) -> str:
    words, hint = one_line(stderr, _program(argv)), _hint(argv, status, stderr)
    return f"{_program(argv)} {status_text(status)}" + f": {words}" * bool(words) + f" ({hint})" * bool(hint)


def _hint(argv: Sequence[str], status: int, stderr: str) -> str | None:
    """Return the likely cause of a failure, or the way out, where the program's own words do not say it."""
    if status in (-9, 128 + 9):
        return "out of memory? see the container's memory limit"
    if _program(argv) != "kubectl":
        return None
    if _NO_TOKEN.search(stderr):
        return _NO_CREDENTIALS
    rule = missing_rule(stderr)
    return rule and f"missing rule: {rule}"
