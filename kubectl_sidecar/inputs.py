"""Where the tasks come from: files, stdin and lines, read again whenever that is wanted."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kubectl_sidecar import watching
from kubectl_sidecar.children import Children
from kubectl_sidecar.commands import Running
from kubectl_sidecar.document import HEARTBEAT
from kubectl_sidecar.errors import InvalidInput, Problem, RefreshFailed
from kubectl_sidecar.preflight import preflight
from kubectl_sidecar.shutdown import Wakeup
from kubectl_sidecar.taskfile import Source, load_tasks, read_source
from kubectl_sidecar.tasks import Defaults, Task

# jq compiles in milliseconds; a program that computes for ever is not load time's business.
_PROBE_SECONDS = 2.0
# Less than the time between two beats, so that no beat passes without a look.
_BETWEEN_LOOKS = HEARTBEAT * 0.9


@dataclass(slots=True)
class Inputs:
    """The tasks as their author writes them."""

    files: Sequence[str]
    lines: Sequence[str]
    defaults: Defaults
    environ: Mapping[str, str]
    children: Children
    root: str = ""
    """The output directory, where there is one."""
    status_file: str | None = None
    """Absolute; no task may have it as its output."""
    follow: bool = False
    """Take changes over without being asked."""
    clock: Callable[[], float] = time.monotonic
    _stdin: Source | None = None
    _loaded: list[Source] = field(default_factory=list)
    _seen: list[Source] = field(default_factory=list)
    _next_look: float = 0.0

    def load(self) -> tuple[Task, ...]:
        """Read, parse and check everything; raises InvalidInput with every problem."""
        self._loaded = self._seen = self._read()
        return self._parse()

    def reload(self, asked: bool) -> tuple[Task, ...] | None:
        """As load(), when asked or when something has changed, else None; no problem is raised twice."""
        if asked:
            return self.load()
        if not self.follow or self.clock() < self._next_look:
            return None
        self._next_look = self.clock() + _BETWEEN_LOOKS
        before, self._seen = self._seen, self._read()
        # What differs between two looks may be half-written: even half a file can be a good one.
        if self._seen != before or self._seen == self._loaded:
            return None
        self._loaded = self._seen
        return self._parse()

    def _parse(self) -> tuple[Task, ...]:
        tasks = load_tasks(self._loaded, self.environ, self.defaults)
        problems = [*preflight(tasks, self.environ.get("PATH"), self._probe), *self._clashes(tasks)]
        problems += watching.problems(tasks)
        if problems:
            raise InvalidInput(problems)
        return tasks

    def _clashes(self, tasks: Sequence[Task]) -> Iterator[Problem]:
        """Find the outputs that only turn out to be the same file below the output directory."""
        first: dict[str, Task] = {}
        for task in tasks:
            path = os.path.join(self.root, task.output)
            if path == self.status_file:
                text = "this is the --status-file as well; give one of them another path"
                yield task.output_where.problem(text)
            elif (other := first.setdefault(path, task)) is not task:
                text = f"this is the output of {other.output_where} as well; give it another path"
                yield task.output_where.problem(text)

    def _read(self) -> list[Source]:
        lines = [Source(f"LINE {number}", line) for number, line in enumerate(self.lines, 1)]
        return [*map(self._read_file, self.files), *lines]

    def _read_file(self, path: str) -> Source:
        if path != "-":
            return read_source(path)
        self._stdin = self._stdin or read_source(path)  # there is no second time
        return self._stdin

    def _probe(self, argv: tuple[str, ...]) -> tuple[int, str]:
        with open(os.devnull, "wb") as nowhere, contextlib.suppress(RefreshFailed):
            running = Running(
                self.children,
                [argv],
                self.environ,
                stdin=None,
                stdout=nowhere.fileno(),
                max_output=None,
                grace=0,
            )
            with running as stages, contextlib.closing(Wakeup()) as nobody:
                ended = stages.finish(nobody, _PROBE_SECONDS)
                return ended.statuses[0], ended.stderrs[0]
        return 0, ""  # it cannot be started just now: that is for the refreshes to say
