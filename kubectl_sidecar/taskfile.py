"""Task files and lines to tasks, or all their problems at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubectl_sidecar.errors import InvalidInput, Problem
from kubectl_sidecar.places import Finding
from kubectl_sidecar.tasklines import LineFile, Source, read_source
from kubectl_sidecar.tasks import Defaults, Task, output_clashes

__all__ = ["Source", "load_tasks", "read_source"]


def load_tasks(sources: Sequence[Source], environ: Mapping[str, str], defaults: Defaults) -> tuple[Task, ...]:
    """Raise InvalidInput with every problem of every source."""
    findings: list[list[Finding]] = []
    tasks: list[Task] = []
    owners: list[list[Finding]] = []
    for source in sources:
        findings.append([])
        if not source.problems:
            tasks += _reader(source)(source, environ, defaults, findings[-1]).load()
            owners += [findings[-1]] * (len(tasks) - len(owners))
    for index, text in output_clashes(tasks):
        owners[index].append((tasks[index].output_where, text))
    pairs = zip(sources, findings, strict=True)
    problems = [problem for source, found in pairs for problem in _problems(source, found)]
    if problems:
        raise InvalidInput(problems)
    return tuple(tasks)


def _problems(source: Source, findings: list[Finding]) -> list[Problem]:
    findings.sort(key=lambda finding: (finding[0].line, finding[0].column))
    return [*source.problems, *(position.problem(text) for position, text in findings)]


def _reader(source: Source) -> type[LineFile]:
    if not source.yaml:
        return LineFile
    # PyYAML is 40 ms of every start and 1.5 MB; lines do without.
    from kubectl_sidecar.yamlfile import YamlFile

    return YamlFile
