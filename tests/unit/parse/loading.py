"""Read task lines without a machine that has their programs, and say everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_sidecar.errors import positions
from kubectl_sidecar.parse.line import Findings, LineParser, Options
from kubectl_sidecar.task import Task

ENVIRON = {
    "MYPOD": "web-1",
    "MYNS": "shop",
    "EMPTY": "",
    "SECRET": "hunter2",
    "BLANKS": "-n demo",
    "BROKEN": "\udcff",
}
DEFAULTS: Options = {
    "every": None,
    "timeout": 30.0,
    "mode": 0o644,
    "on_missing": "keep",
    "on_change": None,
    "watch": False,
    "optional": False,
    "allow_empty": False,
}


def found(
    text: str, *, environ: Mapping[str, str] = ENVIRON, allow_unset: bool = False, **said: object
) -> Findings:
    """Return what is found in a file called `tasks`."""
    findings = Findings(environ, allow_unset)
    parser = LineParser(text, positions(text, "tasks"), findings)
    for line in parser.lines:
        parser.parse(line, DEFAULTS | said, {})
    findings.problems.sort(key=lambda problem: (problem.where.line, problem.where.column))
    return findings


def load(
    text: str, *, environ: Mapping[str, str] = ENVIRON, allow_unset: bool = False, **said: object
) -> list[Task]:
    findings = found(text, environ=environ, allow_unset=allow_unset, **said)
    assert not findings.problems, "\n".join(map(str, findings.problems))
    return findings.tasks


def refusals(text: str, *, watch: bool = False) -> list[str]:
    """Return each problem as `line:column: text`."""
    findings = found(text, watch=watch)
    return [f"{p.where.line}:{p.where.column}: {p.text}" for p in findings.problems]


def argvs(text: str, *, environ: Mapping[str, str] = ENVIRON) -> list[tuple[str, ...]]:
    (task,) = load(text, environ=environ)
    return [stage.argv for stage in task.stages]
