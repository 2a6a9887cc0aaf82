"""Run pipelines, and look at what they leave behind."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from kubectl_sidecar.errors import Stopping
from kubectl_sidecar.process.pipeline import Ended, Launcher, Pipeline, Stop
from kubectl_sidecar.process.signals import Groups
from kubectl_sidecar.task import Stage

LIMIT = 1 << 20


def shell(script: str) -> tuple[str, ...]:
    return ("bash", "-c", script)


def launcher(grace: float = 5.0, limit: int = LIMIT, directory: str | None = None) -> Launcher:
    return Launcher(Groups(), grace, limit, directory)


def run(
    *argvs: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    timeout: float = 20.0,
    grace: float = 5.0,
    limit: int = LIMIT,
) -> tuple[Ended, bytes]:
    """Run a pipeline; return how it ended, and what it wrote."""
    return launcher(grace, limit).run(argvs, environment, Stop(), timeout)


@contextlib.contextmanager
def started(
    *argvs: Sequence[str],
    starter: Launcher | None = None,
    stop: Stop | None = None,
    fed: bool = False,
    quiet: Collection[int] = (),
) -> Iterator[tuple[Pipeline, int]]:
    """Start a pipeline that writes to a file; its block gets the two."""
    starter = starter or launcher()
    stages = [Stage(tuple(argv), quiet=number in quiet) for number, argv in enumerate(argvs)]
    with starter.start(stages, os.environ, stop or Stop(), fed=fed) as pipeline:
        yield pipeline, pipeline.output


@contextlib.contextmanager
def until_stopped(work: Callable[[], object], stop: Stop) -> Iterator[None]:
    """Run work in a thread; it is stopped after the block, and has ended by that."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (looked at below)
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert [type(error) for error in ended] == [Stopping]


def line_count(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def content(fd: int) -> bytes:
    return os.pread(fd, LIMIT, 0)


def ready_when(path: Path) -> str:
    """What a script says when it is ready: its PID, whole."""
    return f"echo $$ > {path}.new; mv {path}.new {path}"


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def group(leader: int) -> list[str]:
    """The processes of a group that live."""
    living = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group, *_ = stat.read_text().rpartition(")")[2].split()
            living += [stat.parent.name] if int(of_group) == leader and state != "Z" else []
    return living
