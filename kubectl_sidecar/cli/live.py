"""What tasks need of the cluster, and whether that is allowed: for `check --live` and `rbac`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kubectl_sidecar.errors import InvalidInput, RefreshFailed, visible
from kubectl_sidecar.kubectl.live import Cluster
from kubectl_sidecar.kubectl.rbac import Needs, Types, needs
from kubectl_sidecar.process.pipeline import Launcher
from kubectl_sidecar.task import Settings, Task


def check(tasks: Sequence[Task], settings: Settings, environ: Mapping[str, str], launcher: Launcher) -> int:
    """Print what the tasks need, and whether that is allowed; return the exit status."""
    account = settings.as_account
    try:
        with cluster(settings, environ, launcher) as asked:
            found = all_needs(tasks, asked.types(), account[0] if account else asked.namespace(), asked)
            every = sorted({rule for needed in found for rule in needed.rules})
            allowed = {rule: asked.allows(rule, account) for rule in every}
    except RefreshFailed as error:
        raise RefreshFailed(f"the cluster cannot be asked: {error}") from None
    rows = [("TASK", "ALLOWED", "RULE")]
    for task, needed in zip(tasks, found, strict=True):
        for text in (*needed.notes, *needed.unknown):
            print(f"warning: {task.where}: {visible(task.output)}: {visible(text)}")
        rows += [
            (visible(task.output), "yes" if allowed[rule] else "no", rule.with_place())
            for rule in sorted(needed.rules)
        ]
    width = max(len(output) for output, _, _ in rows)
    for output, answer, text in rows:
        print(f"{output.ljust(width)}  {answer.ljust(7)}  {text}")
    return int(not all(allowed.values()))


def all_needs(tasks: Sequence[Task], types: Types, namespace: str, asked: Cluster) -> list[Needs]:
    """Return what each task needs; raises InvalidInput with every type of objects that there is not."""
    found = [needs(task, types, namespace, asked.read_files) for task in tasks]
    if problems := [problem for needed in found for problem in needed.problems]:
        raise InvalidInput(problems)
    return found


@contextlib.contextmanager
def cluster(settings: Settings, environ: Mapping[str, str], launcher: Launcher) -> Iterator[Cluster]:
    """Yield the cluster that kubectl reaches, with a directory for what it remembers meanwhile."""
    with contextlib.ExitStack() as stack:
        directory = None
        with contextlib.suppress(OSError):  # nothing is writable: kubectl will ask more often
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="kubectl-sidecar-"))
        settled = replace(launcher, grace=settings.grace, max_output=settings.max_output, directory=directory)
        yield Cluster(settled, environ, settings.timeout)
