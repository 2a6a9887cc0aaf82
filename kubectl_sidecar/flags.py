"""The flags and their KUBECTL_SIDECAR_* defaults, from text to values, with every problem at once."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubectl_sidecar.durations import parse_duration
from kubectl_sidecar.errors import Problem
from kubectl_sidecar.places import quoted, visible

PREFIX = "KUBECTL_SIDECAR_"
# Kubernetes puts these into every container for a Service whose name begins with "kubectl-sidecar".
_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SIZE = re.compile(r"([0-9]+)(|k|Ki|M|Mi|G|Gi)")
_FACTORS = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30}


def parse_size(text: str) -> int:
    """Bytes, of a Kubernetes quantity such as 16Mi; raises ValueError."""
    if not (match := _SIZE.fullmatch(text)) or not int(match[1]):
        raise ValueError(f"{quoted(text)} is no size; write one such as 16Mi or 500k")
    return int(match[1]) * _FACTORS[match[2]]


def parse_positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ValueError(f"{quoted(text)} is not a whole number above 0")
    return int(text)


def parse_failures(text: str) -> int | None:
    """None for -1: for ever."""
    try:
        return None if text == "-1" else parse_positive(text)
    except ValueError as error:
        raise ValueError(f"{error}, or -1 for ever") from None


def parse_mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError(f"{quoted(text)} is no file mode; write three octal digits, such as 0644")
    return int(text, 8)


def parse_switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{quoted(text)} is neither true nor false")
    return text == "true"


def optional_duration(text: str) -> float | None:
    return parse_duration(text) if text else None


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{quoted(text)} is not one of {', '.join(choices)}")
        return text

    return parse


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its environment default is PREFIX and its name in capitals."""

    name: str
    metavar: str | None
    """None: a switch, true or false."""
    default: str
    parse: Callable[[str], Any]
    help: str

    @property
    def option(self) -> str:
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    def add_to(self, group: argparse._ActionsContainer) -> None:
        text = f"{self.help} [{self.default}]" if self.default and self.metavar else self.help
        text = text.replace("%", "%%")
        if self.metavar is None:
            group.add_argument(self.option, action="store_const", const="true", help=text)
        elif self.name == "file":
            group.add_argument("-f", self.option, metavar=self.metavar, action="append", help=text)
        else:
            group.add_argument(self.option, metavar=self.metavar, help=text)


def _paths(text: str) -> list[str]:
    return [path for path in text.split(":") if path]


FILE = Flag(
    "file", "FILE", "", _paths, "task file, - for stdin; may be repeated (in the environment: FILE:FILE)"
)
TASK_FLAGS = (
    FILE,
    Flag(
        "every",
        "DURATION",
        "",
        optional_duration,
        "time between refreshes, ±10 %; with @watch the resync [30s, with @watch 10m]",
    ),
    Flag("timeout", "DURATION", "30s", parse_duration, "limit for one run of a whole pipeline"),
    Flag("mode", "OCTAL", "0644", parse_mode, "permissions of the outputs"),
    Flag(
        "on-missing",
        "keep|remove",
        "keep",
        one_of("keep", "remove"),
        "what to do with the output of an object that does not exist",
    ),
)
OUTPUT_FLAGS = (
    Flag("output-dir", "DIR", ".", str, "where relative outputs go"),
    Flag("max-output", "SIZE", "16Mi", parse_size, "a larger output fails the refresh"),
    Flag("status-file", "PATH", "", str, "put the status document here too, for the app to read"),
)
PROCESS_FLAGS = (
    Flag("once", None, "false", parse_switch, "refresh everything once, and exit"),
    Flag("deadline", "DURATION", "60s", parse_duration, "with --once: how long failures are retried"),
    Flag(
        "max-failures",
        "N",
        "-1",
        parse_failures,
        "exit with 1 after N consecutive failures of a task; -1: never",
    ),
    Flag("concurrency", "N", "2", parse_positive, "refreshes at once; each needs kubectl's 50 MB"),
    Flag("grace", "DURATION", "2s", parse_duration, "time between SIGTERM and SIGKILL"),
    Flag(
        "reload",
        None,
        "false",
        parse_switch,
        "take over changed task files by itself (SIGHUP does it at once)",
    ),
    Flag("log-format", "text|json", "text", one_of("text", "json"), "how log lines are written to stderr"),
)
RUN_FLAGS = TASK_FLAGS + OUTPUT_FLAGS + PROCESS_FLAGS
READ_STATUS_FILE = Flag("status-file", "PATH", "", str, "read this document instead of this container's own")
MAX_AGE = Flag(
    "max-age", "DURATION", "", optional_duration, "with --ready: how old a success may be [3 periods]"
)
HEALTH_FLAGS = (MAX_AGE, READ_STATUS_FILE)


def values(
    flags: Sequence[Flag], given: Mapping[str, Any], environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, Any]:
    """Return each value: given, else from the environment, else the default; problems are added."""
    result: dict[str, Any] = {}
    for flag in flags:
        text, where = given.get(flag.key), flag.option
        if text is None and flag.variable in environ:
            text, where = environ[flag.variable], flag.variable
        if isinstance(text, list):
            result[flag.key] = text
            continue
        try:
            result[flag.key] = flag.parse(flag.default if text is None else text)
        except ValueError as error:
            problems.append(Problem(where, str(error)))
            result[flag.key] = flag.parse(flag.default)  # so that the problems of the tasks are found as well
    return result


def unknown_variables(environ: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each KUBECTL_SIDECAR_* variable that is no flag: a typo must not be ignored."""
    known = [flag.key.upper() for flag in RUN_FLAGS + HEALTH_FLAGS]
    problems = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        name = variable.removeprefix(PREFIX)
        if name not in known and not _SERVICE_LINK.fullmatch(name):
            close = difflib.get_close_matches(name, known, 1)
            way_out = (
                f"did you mean {PREFIX}{close[0]}?" if close else "kubectl-sidecar run --help lists them"
            )
            problems.append(Problem(visible(variable), f"there is no flag of that name; {way_out}"))
    return problems
