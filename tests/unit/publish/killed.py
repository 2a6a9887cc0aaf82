"""Publish a directory in processes that are killed on the way, and look at what they leave. A program."""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from kubectl_sidecar.publish.directory import OutputDirectory, sweep
from tests.unit.publish.publishing import names, put

Files = Mapping[str, str]
OURS = re.compile(r"\.\.kubectl-sidecar-[0-9a-f]{16}")
# Names that stay, come and go; contents that are the same in both, and others.
OLD = {"same": "x", "other": "old", "gone": "x", "gone-too": ""}
NEW = {"same": "x", "other": "new", "come": "x", "come-too": ""}


def dying(work: Callable[[], object], steps: int) -> bool:
    """Do it in a process that is killed after so many calls to the system; tell whether it came to that."""
    left = iter(range(steps))

    def look(event: str, _: object) -> None:
        if event.startswith(("os.", "open", "fcntl.")) and next(left, None) is None:
            signal.raise_signal(signal.SIGKILL)

    if not (pid := os.fork()):
        sys.addaudithook(look)
        work()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status != 0


def published(path: Path) -> Files:
    """What a reader finds in the directory that ..data leads to."""
    data = path / "..data"
    return {name: (data / name).read_text() for name in names(data)} if data.is_symlink() else {}


def assert_clean(path: Path) -> None:
    """Nothing lies there but the generation that is published, and a link to each of its files."""
    links = {name: Path("..data", name) for name in published(path)}
    if (path / "..data").is_symlink():
        links["..data"] = next(Path(name) for name in names(path) if OURS.fullmatch(name))
    found = {name: (path / name).readlink() for name in names(path) if (path / name).is_symlink()}
    assert found == links
    assert len(names(path)) == len(links) + ("..data" in links)


def start_again(root: Path, *allowed: Files) -> None:
    """What a kill left is whole, and clean after the next start."""
    left = published(root / "d")
    assert left in allowed, left
    sweep(str(root), ["d/"])
    assert published(root / "d") == left
    assert_clean(root / "d")


def bring_to(root: Path, state: Files | None) -> None:
    """None: the object does not exist."""
    output = OutputDirectory(str(root), "d/", 0o644, durable=False, allow_empty=True)
    output.remove() if state is None else put(output, json.dumps(state).encode())


def at_every_step(root: Path) -> None:
    """Print how many steps there are from each state to the next."""
    (root / "d").mkdir()
    for before, after in ((None, OLD), (OLD, NEW), (NEW, {}), (OLD, None)):
        steps, killed = 0, True
        while killed:
            bring_to(root, before)
            killed = dying(functools.partial(bring_to, root, after), steps)
            start_again(root, before or {}, after or {})
            steps += killed
        print(steps)


def at_any_time(root: Path, count: int, seed: int) -> None:
    """Publish for ever in a process that is killed from outside after a time that is drawn."""
    draw = random.Random(seed)  # noqa: S311
    choices = [{f"{name}{number}": f"{number}" * 300_000 for name in "abc"} for number in range(10)]
    output = OutputDirectory(str(root), "d/", 0o644, durable=False)
    put(output, json.dumps(choices[0]).encode())
    for _ in range(count):
        if not (pid := os.fork()):
            for files in itertools.cycle(choices):
                put(output, json.dumps(files).encode())
        threading.Event().wait(draw.uniform(0, 0.02))  # somewhere in a publication
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        start_again(root, *choices)
    print(count)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))
