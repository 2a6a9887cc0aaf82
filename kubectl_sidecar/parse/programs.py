"""Check what is known only on the machine: programs exist and can be executed, jq programs compile."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from kubectl_sidecar.errors import Problem, quoted, visible
from kubectl_sidecar.task import Stage

# Runs the argv of a jq on an empty stdin; returns its exit status and what it says on stderr.
Probe = Callable[[tuple[str, ...]], tuple[int, str]]

BUILTIN = re.compile(
    r"[.:]|alias|cd|command|declare|eval|exec|exit|export|local|read|set|shopt|source|trap|type|ulimit|unset|wait"
)
_COMPILE_ERROR, _USAGE_ERROR = 3, 2
_LONGEST_COMPLAINT = 300
# jq says these of files that it reads, which another task may be about to write, and of its output, which may
# be more than is kept of it here.
_ABOUT_FILES = ("jq: error: Could not open", "jq: Bad JSON in --", "jq: error: writing output failed")


def check_programs(stages: Iterable[Stage], path: str | None, probe: Probe) -> Iterator[Problem]:
    """Yield what is wrong with the programs; `path` is PATH. jq is asked once for equal stages."""
    complaint_of = cache(lambda argv: _complaint(*probe(argv)))
    for stage in stages:
        program = stage.argv[0]
        if wrong := _wrong_program(program, path):
            is_secret = stage.expanded and program not in stage.where.text
            yield Problem(stage.where, f"{'this program' if is_secret else quoted(program)}{wrong}")
        elif os.path.basename(program) == "jq" and (complaint := complaint_of(stage.argv)):
            hidden = "its words hold values of the environment, so what it said is not shown"
            yield Problem(stage.where, f"jq refuses this: {hidden if stage.expanded else complaint}")


def _wrong_program(program: str, path: str | None) -> str:
    folders = [""] if "/" in program else (os.defpath if path is None else path).split(":")
    files = (os.path.join(folder, program) for folder in folders)
    if found := next((file for file in files if os.path.isfile(file) and os.access(file, os.X_OK)), None):
        is_program = _begins_like_a_program(found)
        return "" if is_program else " is no program: it begins neither with #! nor as an ELF file"
    if "/" in program:
        return " is no executable file"
    if BUILTIN.fullmatch(program):
        return f" is built into shells and no program; use bash -euo pipefail -c '{program} …' as a stage"
    return ": no such program on PATH; install it in the image, or write its path"


def _begins_like_a_program(file: str) -> bool:
    try:
        with open(file, "rb") as opened:
            return opened.read(4).startswith((b"\x7fELF", b"#!"))
    except OSError:
        return True  # what may be executed need not be readable


def _complaint(status: int, stderr: str) -> str:
    """Return in one line what jq says of its words; "" if it is content, or unhappy with its files only."""
    about_files = status == _USAGE_ERROR and stderr.startswith(_ABOUT_FILES)
    if status not in (_COMPILE_ERROR, _USAGE_ERROR) or about_files:
        return ""
    lines = (line.strip() for line in stderr.splitlines())
    text = visible("; ".join(line for line in lines if line.strip("^") and "compile error" not in line))
    return text.removeprefix("jq: ").removeprefix("error: ")[:_LONGEST_COMPLAINT]
