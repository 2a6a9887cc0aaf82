"""Two tasks, and a clock that goes when it is told to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kubectl_sidecar.errors import Position
from kubectl_sidecar.task import Hook, Stage, Task, WatchPlan

_WATCH = WatchPlan(("kubectl", "get", "pod", "--watch"), feeds=False, ahead=False)


def task(
    output: str, *, every: float = 30.0, watch: bool = False, required: bool = True, hook: Hook | None = None
) -> Task:
    where = Position("tasks", 1, 1)
    return Task(
        stages=(Stage(("/bin/cat", f"/{output}"), where),),
        output=output,
        every=every,
        timeout=30.0,
        mode=0o644,
        on_missing="keep",
        on_change=hook,
        watch=_WATCH if watch else None,
        required=required,
        allow_empty=False,
        where=where,
        output_where=where,
    )


def moved(task: Task) -> Task:
    """The same task in another line of its file."""
    return replace(task, where=Position("tasks", 2, 1))


@dataclass
class Clock:
    """Wall clock and time since boot; only the first is ever set."""

    wall: float = 1_800_000_000.0
    since_boot: float = 1000.0

    def __call__(self) -> tuple[float, float]:
        return self.wall, self.since_boot

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds
