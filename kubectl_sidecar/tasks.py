"""What a task is, once everything about it is known."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kubectl_sidecar.pipeline import Directives, OnMissing, Stage
from kubectl_sidecar.places import Position, visible

# Linux takes no longer path; it also bounds the time spent on a path that nobody can have meant.
_LONGEST_PATH = 4095


@dataclass(frozen=True, slots=True)
class Task:
    stages: tuple[Stage, ...]
    output: str
    """Normalised and unique: the name of the task. Relative to the output directory, or absolute."""
    every: float
    """Seconds; of a watched task, between its resyncs."""
    timeout: float
    mode: int
    on_missing: OnMissing
    watch: bool
    required: bool
    """Whether startup and readiness wait for it."""
    where: Position = field(compare=False)
    output_where: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a task that says nothing itself."""

    every: float | None = None
    """None: 30 s, and 10 minutes for a watched task."""
    timeout: float = 30.0
    mode: int = 0o644
    on_missing: OnMissing = "keep"
    watch: bool = False
    required: bool = True

    def period(self, *, watch: bool) -> float:
        if self.every is not None:
            return self.every
        return 600.0 if watch else 30.0


def normalise(output: str) -> str:
    """`a//b/./c` to `a/b/c`; raise ValueError for what cannot be a file under the output directory."""
    if not output:
        raise ValueError("the output's path is empty")
    if len(output) > _LONGEST_PATH:
        raise ValueError(f"the output's path has {len(output)} characters; Linux takes {_LONGEST_PATH}")
    if visible(output) != output or "\t" in output:
        raise ValueError("the output's path holds control characters, but it is the task's name in logs")
    if posixpath.basename(output) in ("", ".", ".."):
        raise ValueError("the output's path names a directory; add the name of a file")
    path = posixpath.normpath(output)
    if path.startswith("../"):
        raise ValueError("the output's path leaves the output directory; write an absolute path to do so")
    # POSIX lets two leading slashes mean something else; Linux does not.
    return "/" + path.lstrip("/") if path.startswith("/") else path


def make_task(
    stages: tuple[Stage, ...], said: Directives, defaults: Defaults, *, output: str, output_where: Position
) -> Task:
    """Raise ValueError if `output` cannot be one."""
    watch = defaults.watch if said.watch is None else said.watch
    return Task(
        stages=stages,
        output=normalise(output),
        every=said.every or defaults.period(watch=watch),
        timeout=said.timeout or defaults.timeout,
        mode=defaults.mode if said.mode is None else said.mode,
        on_missing=said.on_missing or defaults.on_missing,
        watch=watch,
        required=defaults.required if said.optional is None else not said.optional,
        where=stages[0].where,
        output_where=output_where,
    )


def output_clashes(tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
    """Yield the index of each task whose output another one needs for itself, and the text that says so."""
    first: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if first.setdefault(task.output, index) != index:
            other = tasks[first[task.output]].output_where
            yield index, f"this is the output of {other} as well; give it another path"
    # Sorted by their parts, a directory stands right before what is in it.
    ordered = sorted(first.items(), key=lambda item: item[0].split("/"))
    for (above, one), (below, two) in pairwise(ordered):
        if below.startswith(above + "/"):
            where = tasks[min(one, two)].output_where
            yield (
                max(one, two),
                f"one of this output and that of {where} is a directory of the other; move one",
            )
