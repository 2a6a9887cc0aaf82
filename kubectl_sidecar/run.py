"""The run and check commands: from flags and task files to a supervisor."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from kubectl_sidecar import __version__, flags, kube, watching
from kubectl_sidecar.children import Children
from kubectl_sidecar.document import NAME
from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.errors import InvalidInput, Problem
from kubectl_sidecar.inputs import Inputs
from kubectl_sidecar.journal import Journal, log, set_up_logging
from kubectl_sidecar.loop import Supervisor
from kubectl_sidecar.publish import sweep
from kubectl_sidecar.refresh import Limits, Refresher
from kubectl_sidecar.retry import Policy
from kubectl_sidecar.runtime import candidates, runtime_directory
from kubectl_sidecar.shutdown import Signals
from kubectl_sidecar.taskloop import Means
from kubectl_sidecar.tasks import Defaults, Task

DEFAULT_FILE = "/etc/kubectl-sidecar/tasks"


def check(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Validate, and say what was understood."""
    settings, problems = _settings(given, environ, flags.TASK_FLAGS)
    for task in _load(_inputs(given, settings, environ), problems):
        print(describe(task))
    return 0


def describe(task: Task) -> str:
    """Say in one line what will be done for a task; not its words: they hold expanded variables."""
    programs = " | ".join(os.path.basename(stage.argv[0]) for stage in task.stages)
    options = [f"watch ({watching.describe(task)})"] if task.watch else []
    options.append(f"every {format_duration(task.every)}")
    options += [
        f"timeout {format_duration(task.timeout)}",
        f"mode {task.mode:04o}",
        f"on-missing {task.on_missing}",
    ]
    return (
        f"{task.where}: {task.output}: {programs}; {', '.join(options + ['optional'] * (not task.required))}"
    )


def run(given: argparse.Namespace, environ: Mapping[str, str], signals: Signals) -> int:
    """Keep the outputs up to date; returns the exit status."""
    settings, problems = _settings(given, environ, flags.RUN_FLAGS + flags.HEALTH_FLAGS[:1])
    inputs = _inputs(given, settings, environ)
    inputs.root, inputs.follow = os.path.abspath(settings.output_dir), settings.reload
    inputs.status_file = os.path.abspath(settings.status_file) if settings.status_file else None
    if not os.path.isdir(inputs.root):
        problems.append(
            Problem("--output-dir", f"{inputs.root} is not a directory; make it, or mount a volume there")
        )
    tasks = _load(inputs, problems)
    set_up_logging(settings.log_format)
    log.info(
        "kubectl-sidecar %s: %d tasks, UID %d, GID %d", __version__, len(tasks), os.geteuid(), os.getegid()
    )
    sweep(inputs.root, [task.output for task in tasks])
    with runtime_directory(environ) as directory:
        supervisor = Supervisor(
            means=_means(settings, inputs, directory, signals),
            children=inputs.children,
            signals=signals,
            reload=inputs.reload,
            init=os.getpid() == 1,
        )
        return supervisor.run(tasks)


def _settings(
    given: argparse.Namespace, environ: Mapping[str, str], used: Sequence[flags.Flag]
) -> tuple[argparse.Namespace, list[Problem]]:
    problems = flags.unknown_variables(environ)
    values = flags.values(used, vars(given), environ, problems)
    return argparse.Namespace(**values), problems


def _inputs(given: argparse.Namespace, settings: argparse.Namespace, environ: Mapping[str, str]) -> Inputs:
    defaults = Defaults(
        every=settings.every, timeout=settings.timeout, mode=settings.mode, on_missing=settings.on_missing
    )
    files = settings.file or ([] if given.lines else [DEFAULT_FILE])
    return Inputs(files, given.lines, defaults, environ, Children())


def _load(inputs: Inputs, problems: list[Problem]) -> tuple[Task, ...]:
    """Load the tasks; raises InvalidInput with their problems and those of the flags."""
    try:
        loaded = inputs.load()
    except InvalidInput as error:
        raise InvalidInput([*problems, *error.problems]) from None
    if problems:
        raise InvalidInput(problems)
    return loaded


def _means(settings: argparse.Namespace, inputs: Inputs, directory: str | None, signals: Signals) -> Means:
    limits = Limits(settings.grace, settings.max_output, settings.concurrency)
    environment = _environment(inputs.environ, directory)
    # Probes read the private one, the app the other: what happens to its volume is no reason to restart us.
    # Its way there may lead through symlinks (TMPDIR), which are never followed when something is written.
    documents = [f"{os.path.realpath(directory)}/{NAME}"] if directory else []
    documents += [inputs.status_file] if inputs.status_file else []
    return Means(
        refresher=Refresher(inputs.root, environment, inputs.children, limits),
        journal=Journal(documents),
        policy=Policy(settings.max_failures, settings.deadline if settings.once else None),
        once=settings.once,
        ended=signals.wake,
    )


def _environment(environ: Mapping[str, str], directory: str | None) -> Mapping[str, str]:
    config = kube.in_cluster_kubeconfig(environ)
    if directory is None and "KUBECACHEDIR" not in environ:
        log.warning(kube.NO_CACHE, ", ".join(map(os.path.dirname, candidates(environ))))
    return kube.environment(
        environ,
        kubeconfig=kube.memory_file(config) if config else None,
        cache=f"{directory}/kubectl" if directory else None,
    )
