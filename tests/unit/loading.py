"""Load tasks from text, and the text of everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.taskfile import Source, load_tasks
from kubectl_sidecar.tasks import Defaults, Task

ENVIRON = {"MYPOD": "web-1", "MYNS": "shop", "EMPTY": "", "SECRET": "hunter2", "BROKEN": "\udcff"}


def load(
    *texts: str, yaml: bool = False, environ: Mapping[str, str] = ENVIRON, defaults: Defaults | None = None
) -> tuple[Task, ...]:
    name = "tasks.yaml" if yaml else "tasks"
    sources = [
        Source(name if number == 1 else f"{name}{number}", text, yaml=yaml)
        for number, text in enumerate(texts, 1)
    ]
    return load_tasks(sources, environ, defaults or Defaults())


def refusal(*texts: str, yaml: bool = False, environ: Mapping[str, str] = ENVIRON) -> str:
    with pytest.raises(InvalidInput) as caught:
        load(*texts, yaml=yaml, environ=environ)
    return str(caught.value)


def argvs(text: str, *, environ: Mapping[str, str] = ENVIRON) -> list[tuple[str, ...]]:
    (task,) = load(text, environ=environ)
    return [stage.argv for stage in task.stages]


def placed(text: str, column: int, message: str, *, line: int = 1, name: str = "tasks") -> str:
    """Build the error with its line and the caret under the place."""
    shown = text.split("\n")[line - 1]
    return f"{name}:{line}:{column}: {message}\n    {shown}\n    {' ' * (column - 1)}^"
