"""Sources of tasks, and the ones that are lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from kubectl_sidecar.errors import Problem
from kubectl_sidecar.pipeline import Directives, Parser, Pipeline
from kubectl_sidecar.places import Finding, Position, Text, visible
from kubectl_sidecar.tasks import Defaults, Task, make_task
from kubectl_sidecar.words import Tokenizer

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_CARRIAGE = re.compile(r"\r(?=\n|\Z)")


@dataclass(frozen=True, slots=True)
class Source:
    """A text with tasks; `name` is what errors call it."""

    name: str
    text: str
    yaml: bool = False
    problems: tuple[Problem, ...] = ()


def read_source(path: str, stdin: BinaryIO | None = None) -> Source:
    """Read a file, or `-` for stdin; one that cannot be read is a problem of the source."""
    name = "<stdin>" if path == "-" else path
    try:
        data = (stdin or sys.stdin.buffer).read() if path == "-" else _read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Source(name, "", problems=(Problem(visible(name), f"cannot be read: {reason}"),))
    # What is not UTF-8 stays recognisable, so that it can be pointed at.
    return Source(name, data.decode("utf-8", "surrogateescape"), yaml=path.endswith((".yaml", ".yml")))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class LineFile:
    """A file of task lines, or one line."""

    def __init__(
        self, source: Source, environ: Mapping[str, str], defaults: Defaults, findings: list[Finding]
    ) -> None:
        self._file = Position(source.name)
        self._text = source.text
        self._environ = environ
        self._defaults = defaults
        self._findings = findings

    def load(self) -> list[Task]:
        problem = self._unusable(self._text)
        if problem:
            self._find(self._whole().at(problem[0]), problem[1])
            return []
        self._normalise()
        tasks = list(self._tasks())
        if not tasks and not self._findings:
            self._find(self._file, "expected at least one task, but there is none")
        return tasks

    def _unusable(self, text: str) -> tuple[int, str] | None:
        found = _UNUSABLE.search(text)
        if not found:
            return None
        what = "a NUL character" if found.group() == "\0" else "a byte that is not UTF-8"
        return found.start(), f"expected text, but {what} came"

    def _normalise(self) -> None:
        if self._text.startswith("\ufeff"):
            self._find(self._whole().at(0), "expected text, but a byte order mark came; save without it")
            self._text = " " + self._text[1:]
        carriage = _CARRIAGE.search(self._text)
        if carriage:
            self._find(self._whole().at(carriage.start()), "the line ends in CR LF; save with LF line ends")
            self._text = self._text.replace("\r\n", "\n").removesuffix("\r")

    def _tasks(self) -> Iterator[Task]:
        text = self._whole()
        for line in Tokenizer(text, self._environ, self._findings).lines():
            pipeline = Parser(line, text, self._findings).parse()
            if pipeline:
                yield from self._task(pipeline, pipeline.directives, pipeline.output, pipeline.output_where)

    def _whole(self) -> Text:
        return Text(self._text, replace(self._file, line=1))

    def _find(self, position: Position, text: str) -> None:
        self._findings.append((position, text))

    def _task(self, pipeline: Pipeline, said: Directives, output: str, where: Position) -> Iterator[Task]:
        try:
            yield make_task(pipeline.stages, said, self._defaults, output=output, output_where=where)
        except ValueError as error:
            self._find(where, str(error))
