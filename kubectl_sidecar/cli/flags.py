"""The flags and their defaults in the environment, from text to Settings."""

from __future__ import annotations

import argparse
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubectl_sidecar.errors import InvalidInput, Position, Problem, quoted
from kubectl_sidecar.task import HOOK_OUTPUT, Settings
from kubectl_sidecar.units import parse_address, parse_count, parse_duration, parse_mode, parse_size

PREFIX = "KUBECTL_SIDECAR_"
# Kubernetes puts these into every container for a Service whose name begins with "kubectl-sidecar".
_SERVICE_LINK = r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
DESCRIPTION = """\
Keep files equal to what `kubectl ... | jq ...` says.

A task is a line of sh: a pipeline and the file that it fills. There is no
shell; what sh would do and kubectl-sidecar does not is an error. A file is
replaced as a whole, when all of its line succeeded."""
EPILOG = """\
examples:
  kubectl-sidecar run 'kubectl get pod $MYPOD -o json | jq .status > pod.json'
  kubectl-sidecar run --output-dir /data -f /etc/kubectl-sidecar/tasks
  kubectl-sidecar run --once -f tasks.yaml     # for an init container or a Job
  kubectl-sidecar check -f tasks               # in CI: needs no cluster
  kubectl-sidecar rbac --service-account shop/app -f tasks | kubectl apply -f -

a task file:
  # comments, quotes and continuations as in sh; directives come first
  @every 5m @mode 0640  kubectl get nodes -o json |
      jq '[.items[].metadata.name]' > nodes.json

exit status:
  0  orderly stop; with --once: everything is fresh
  1  a task failed (--once), or gave up (--max-failures)
  2  bad flags, tasks or jq program; nothing ran
  3  a bug in kubectl-sidecar

signals:
  TERM, INT  stop it (twice: at once)
  HUP        read the task files again
  USR1       refresh everything now

Every flag with a value, and every switch of `run`, has a default in the
environment: --output-dir is KUBECTL_SIDECAR_OUTPUT_DIR. Flags win. A
KUBECTL_SIDECAR_ variable that is no flag is an error."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag; its default in the environment is PREFIX and its name in capitals."""

    name: str
    metavar: str | None  # None: a switch, true or false in the environment
    parse: Callable[[str], Any]  # from text to value; raises ValueError
    help: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def field(self) -> str:
        """Its name in Settings."""
        return {"file": "files", "as": "as_account"}.get(self.name, self.name.replace("-", "_"))

    def add_to(self, group: argparse._ActionsContainer) -> None:
        flag = f"--{self.name}"
        if self.metavar is None:
            group.add_argument(flag, action="store_true", help=self.help)
        elif self.name == "file":
            group.add_argument("-f", flag, dest="files", action="append", metavar="FILE", help=self.help)
        else:
            group.add_argument(flag, dest=self.field, metavar=self.metavar, type=self._value, help=self.help)

    def _value(self, text: str) -> Any:  # noqa: ANN401 (whatever this flag's values are)
        try:
            return self.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{quoted(text)} is not one of {', '.join(choices)}")
        return text

    return parse


def _account(text: str) -> tuple[str, str]:
    if not (match := re.fullmatch(r"([a-z0-9-]+)/([a-z0-9.-]+)", text)):
        raise ValueError(f"{quoted(text)} is not NAMESPACE/NAME of a service account")
    return match[1], match[2]


def _failures(text: str) -> int | None:
    try:
        return None if text == "-1" else parse_count(text)
    except ValueError as error:
        raise ValueError(f"{error}, or -1 for ever") from None


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{quoted(text)} is neither true nor false")
    return text == "true"


def _paths(text: str) -> list[str]:
    return [path for path in text.split(":") if path]


def _absolute(text: str) -> str | None:
    return os.path.abspath(text) if text else None


Sections = Mapping[str, Sequence[Flag]]  # titles of the help, and what is below them
TASK_FLAGS = (
    Flag("file", "FILE", _paths, "task file, - for stdin; may be repeated (in the environment: FILE:FILE)"),
    Flag("every", "DURATION", parse_duration, "time between refreshes, ±10 %% [30s; @watch's resync: 10m]"),
    Flag("timeout", "DURATION", parse_duration, "limit for one run of a whole pipeline [30s]"),
    Flag("mode", "OCTAL", parse_mode, "permissions of the outputs [0644]"),
    Flag("on-missing", "keep|remove", _one_of("keep", "remove"), "the output of a missing object [keep]"),
)
OUTPUT_FLAGS = (
    Flag("output-dir", "DIR", str, "where relative outputs go [.]"),
    Flag("max-output", "SIZE", parse_size, "a larger output fails the refresh [16Mi]"),
    Flag("status-file", "PATH", _absolute, "put the status document here too, for the app to read"),
)
PROCESS_FLAGS = (
    Flag("once", None, _switch, "refresh everything once, and exit"),
    Flag("deadline", "DURATION", parse_duration, "with --once: how long failures are retried [60s]"),
    Flag("max-failures", "N", _failures, "exit with 1 after N consecutive failures of a task [-1: never]"),
    Flag("concurrency", "N", parse_count, "refreshes at once; each needs kubectl's 50 MB [2]"),
    Flag("grace", "DURATION", parse_duration, "time between SIGTERM and SIGKILL [2s]"),
    Flag("reload", None, _switch, "take over changed task files by itself (SIGHUP does it at once)"),
    Flag("http", "ADDRESS:PORT", parse_address, "answer /livez, /readyz, /startupz and /metrics there [off]"),
    Flag("log-format", "text|json", _one_of("text", "json"), "how log lines are written to stderr [text]"),
)
CHECK_FLAGS = (
    Flag("allow-unset", None, _switch, "a variable that is not set is no problem"),
    Flag("live", None, _switch, "ask the cluster whether everything is allowed that the tasks need"),
    Flag("as", "NAMESPACE/NAME", _account, "with --live: the service account [who you are]"),
)
RBAC_FLAGS = (
    Flag("service-account", "NAMESPACE/NAME", _account, "who is to be allowed what the tasks need; required"),
    Flag("name", "NAME", str, "of all Roles [NAME; in other places than NAMESPACE: NAMESPACE:NAME]"),
    Flag("allow-unknown", None, _switch, "what it cannot judge is a comment, and no failure"),
)
# Of health; for --http it is in the environment alone.
_MAX_AGE = Flag("max-age", "DURATION", parse_duration, "how old a success may be")
_ALL_FLAGS = (*TASK_FLAGS, *OUTPUT_FLAGS, *PROCESS_FLAGS, *CHECK_FLAGS, *RBAC_FLAGS, _MAX_AGE)


def parser(command: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a command; what is not given is not in its result."""
    return argparse.ArgumentParser(
        f"kubectl-sidecar {command}".rstrip(),
        description=description,
        epilog=epilog,
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=30),
        # An abbreviated flag would mean something else as soon as there is another flag.
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )


def settings(
    parser: argparse.ArgumentParser, words: Sequence[str], environ: Mapping[str, str], sections: Sections
) -> Settings:
    """Return what a command was given that has tasks, and these flags; else what the environment says.

    Raises InvalidInput with all problems of the environment.
    """
    tasks = parser.add_argument_group("tasks", "With none given: /etc/kubectl-sidecar/tasks.")
    help_of_lines = "a task line: 'kubectl get pod p | cat > p'"
    tasks.add_argument("lines", metavar="LINE", nargs="*", default=[], help=help_of_lines)
    for flag in TASK_FLAGS:
        flag.add_to(tasks)
    known = {*TASK_FLAGS, _MAX_AGE}
    for title, flags in sections.items():
        group = parser.add_argument_group(title) if title else parser
        for flag in flags:
            flag.add_to(group)
        known.update(flags)
    given = vars(parser.parse_args(words))
    values = {flag.field: value for flag, value in _from_environment(environ) if flag in known} | given
    for name in ("files", "lines"):
        values[name] = tuple(values.get(name, ()))
    return Settings(**values)


def _from_environment(environ: Mapping[str, str]) -> list[tuple[Flag, Any]]:
    # What other commands will read is checked as well.
    known = {flag.variable: flag for flag in _ALL_FLAGS}
    found, problems = [], []
    ours = f"(?!{HOOK_OUTPUT}$){PREFIX}(?!{_SERVICE_LINK}$)"
    for variable in sorted(name for name in environ if re.match(ours, name)):
        text = environ[variable]
        try:
            if variable not in known:
                raise ValueError(_no_such_flag(variable, known))
            if text:  # an empty one is as good as none: charts write such
                found.append((known[variable], known[variable].parse(text)))
        except ValueError as error:
            problems.append(Problem(Position(variable), str(error)))
    if problems:
        raise InvalidInput(problems)
    return found


def _no_such_flag(variable: str, known: Iterable[str]) -> str:
    import difflib  # for a typo only

    close = difflib.get_close_matches(variable, known, 1, cutoff=0.9)
    way_out = f"did you mean {close[0]}?" if close else "kubectl-sidecar run --help lists them"
    return f"there is no flag of that name; {way_out}"
