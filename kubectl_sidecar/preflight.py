"""What can be known before anything runs, but only on the machine: programs exist, jq programs compile."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator

from kubectl_sidecar.errors import Problem
from kubectl_sidecar.pipeline import Stage
from kubectl_sidecar.places import quoted, visible
from kubectl_sidecar.tasks import Task

Probe = Callable[[tuple[str, ...]], tuple[int, str]]
"""Runs argv with nothing on stdin: its exit status and what it said on stderr."""

_COMPILE_ERROR, _USAGE_ERROR = 3, 2
_SAID = 300
# jq says these of files that it reads, which another task may be about to write.
_ABOUT_INPUT = ("jq: error: Could not open", "jq: Bad JSON in --")
_BUILTIN = re.compile(
    r"[.:]|alias|bg|break|builtin|cd|command|continue|declare|eval|exec|exit|export|fg|hash|jobs|let|local|mapfile|"
    r"read|readonly|return|set|shift|shopt|source|times|trap|type|typeset|ulimit|umask|unalias|unset|wait"
)


def preflight(tasks: Iterable[Task], path: str | None, probe: Probe) -> list[Problem]:
    """`path` is PATH; equal jq stages are probed once."""
    said: dict[tuple[str, ...], str] = {}
    return [
        problem for task in tasks for stage in task.stages for problem in _check(stage, path, probe, said)
    ]


def _check(
    stage: Stage, path: str | None, probe: Probe, said: dict[tuple[str, ...], str]
) -> Iterator[Problem]:
    program = stage.argv[0]
    name = "this program" if stage.expanded and program not in stage.where.text else quoted(program)
    if not _is_there(program, path):
        yield stage.where.problem(_absence(program, name))
    elif program.rpartition("/")[2] == "jq":
        if stage.argv not in said:
            said[stage.argv] = _complaint(*probe(stage.argv))
        if said[stage.argv]:
            hidden = "its words hold values of the environment, so what it said is not shown"
            yield stage.where.problem(f"jq refuses this: {hidden if stage.expanded else said[stage.argv]}")


def _is_there(program: str, path: str | None) -> bool:
    folders = [""] if "/" in program else (os.defpath if path is None else path).split(":")
    return any(_is_executable(os.path.join(folder, program)) for folder in folders)


def _is_executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _absence(program: str, name: str) -> str:
    if "/" in program:
        return f"{name} is no executable file"
    if _BUILTIN.fullmatch(program):
        return f"{name} is built into shells and no program; use bash -c '{program} …' as a stage"
    return f"{name}: no such program on PATH; install it in the image, or write its path"


def _complaint(status: int, stderr: str) -> str:
    """What jq says about its words, in one line; nothing if it is content, or unhappy with its input only."""
    about_input = status == _USAGE_ERROR and stderr.startswith(_ABOUT_INPUT)
    if status not in (_COMPILE_ERROR, _USAGE_ERROR) or about_input:
        return ""
    lines = (line.strip() for line in stderr.splitlines())
    text = visible("; ".join(line for line in lines if line.strip("^") and "compile error" not in line))
    return text.removeprefix("jq: ").removeprefix("error: ")[:_SAID]
