"""The run and check commands: from flags and task files to a supervisor."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubectl_sidecar import __version__, flags, kube
from kubectl_sidecar.commands import Children, Running
from kubectl_sidecar.durations import format_duration
from kubectl_sidecar.errors import InvalidInput, Problem
from kubectl_sidecar.journal import Journal, log, set_up_logging
from kubectl_sidecar.loop import Means, Supervisor
from kubectl_sidecar.preflight import preflight
from kubectl_sidecar.publish import sweep
from kubectl_sidecar.refresh import Limits, Refresher
from kubectl_sidecar.retry import Policy
from kubectl_sidecar.runtime import candidates, runtime_directory
from kubectl_sidecar.shutdown import Signals, Wakeup
from kubectl_sidecar.status import StatusFile
from kubectl_sidecar.taskfile import Source, load_tasks, read_source
from kubectl_sidecar.tasks import Defaults, Task

DEFAULT_FILE = "/etc/kubectl-sidecar/tasks"
# jq compiles in milliseconds; a program that computes for ever is not load time's business.
PROBE_SECONDS = 2.0


@dataclass(slots=True)
class Tasks:
    """Where the tasks come from, so that they can be read again."""

    files: Sequence[str]
    lines: Sequence[str]
    defaults: Defaults
    environ: Mapping[str, str]
    children: Children
    follow: bool = False
    """Take changes over without being asked."""
    _sources: list[Source] = field(default_factory=list)
    _unreadable: list[Problem] = field(default_factory=list)
    _stdin: Source | None = None

    def load(self) -> tuple[Task, ...]:
        """Read, parse and check everything; raises InvalidInput with every problem."""
        self._read()
        problems, tasks = list(self._unreadable), ()
        try:
            tasks = load_tasks(self._sources, self.environ, self.defaults)
        except InvalidInput as error:
            problems += error.problems
        if problems:
            raise InvalidInput(problems)
        if problems := preflight(tasks, self.environ.get("PATH"), self._probe):
            raise InvalidInput(problems)
        return tasks

    def reload(self, asked: bool) -> tuple[Task, ...] | None:
        """Read them again; None: nothing was asked for, and nothing has changed."""
        if not (asked or self.follow):
            return None
        old = self._sources, self._unreadable
        self._read()
        return self.load() if asked or (self._sources, self._unreadable) != old else None

    def _read(self) -> None:
        self._sources, self._unreadable = [], []
        for path in self.files:
            try:
                self._sources.append(self._read_file(path))
            except InvalidInput as error:
                self._unreadable += error.problems
        for number, line in enumerate(self.lines, 1):
            self._sources.append(Source(f"LINE {number}", line, yaml=False))

    def _read_file(self, path: str) -> Source:
        if path != "-":
            return read_source(path)
        self._stdin = self._stdin or read_source(path)  # there is no second time
        return self._stdin

    def _probe(self, argv: tuple[str, ...]) -> tuple[int, str]:
        with open(os.devnull, "wb") as nowhere:
            running = Running(
                self.children, [argv], self.environ, stdin=None, stdout=nowhere.fileno(), max_output=None, grace=0
            )
            with running as stages:
                ended = stages.finish(Wakeup(), PROBE_SECONDS)
        return ended.statuses[0], ended.stderrs[0]


def _settings(given: argparse.Namespace, environ: Mapping[str, str], used: Sequence[flags.Flag]) -> tuple[Any, list[Problem]]:
    problems = flags.unknown_variables(environ)
    values = flags.values(used, vars(given), environ, problems)
    return argparse.Namespace(**values), problems


def _tasks(given: argparse.Namespace, settings: Any, environ: Mapping[str, str], children: Children) -> Tasks:
    defaults = Defaults(
        every=settings.every, timeout=settings.timeout, mode=settings.mode, on_missing=settings.on_missing
    )
    files = settings.file or ([] if given.lines else [DEFAULT_FILE])
    return Tasks(files, given.lines, defaults, environ, children)


def _load(tasks: Tasks, problems: list[Problem]) -> tuple[Task, ...]:
    """Load the tasks; raises InvalidInput with their problems and those of the flags."""
    try:
        loaded = tasks.load()
    except InvalidInput as error:
        raise InvalidInput([*problems, *error.problems]) from None
    if problems:
        raise InvalidInput(problems)
    return loaded


def check(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Validate, and say what was understood."""
    settings, problems = _settings(given, environ, flags.TASK_FLAGS)
    for task in _load(_tasks(given, settings, environ, Children()), problems):
        print(describe(task))
    return 0


def describe(task: Task) -> str:
    """Say in one line what will be done for a task; not its words: they hold expanded variables."""
    programs = " | ".join(os.path.basename(stage.argv[0]) for stage in task.stages)
    options = ["watch"] * task.watch + [f"every {format_duration(task.every)}"]
    options += [f"timeout {format_duration(task.timeout)}", f"mode {task.mode:04o}", f"on-missing {task.on_missing}"]
    return f"{task.where}: {task.output}: {programs}; {', '.join(options + ['optional'] * (not task.required))}"


def run(given: argparse.Namespace, environ: Mapping[str, str], signals: Signals) -> int:
    """Keep the outputs up to date; returns the exit status."""
    settings, problems = _settings(given, environ, flags.RUN_FLAGS)
    root = os.path.abspath(settings.output_dir)
    if not os.path.isdir(root):
        problems.append(Problem("--output-dir", f"{root} is not a directory; make it, or mount a volume there"))
    children = Children()
    tasks = _tasks(given, settings, environ, children)
    loaded = _load(tasks, problems)
    tasks.follow = settings.reload
    set_up_logging(settings.log_format)
    log.info("kubectl-sidecar %s: %d tasks, UID %d, GID %d", __version__, len(loaded), os.geteuid(), os.getegid())
    sweep(root, [task.output for task in loaded])
    with runtime_directory(environ) as directory:
        supervisor = Supervisor(
            means=_means(settings, root, environ, directory, children, signals),
            children=children,
            signals=signals,
            reload=tasks.reload,
            init=os.getpid() == 1,
        )
        return supervisor.run(loaded)


def _means(
    settings: Any, root: str, environ: Mapping[str, str], directory: str | None, children: Children, signals: Signals
) -> Means:
    limits = Limits(settings.grace, settings.max_output, settings.concurrency)
    environment = _environment(environ, directory)
    status = settings.status_file or (f"{directory}/status.json" if directory else None)
    return Means(
        refresher=Refresher(root, environment, children, limits),
        journal=Journal(StatusFile(status) if status else None),
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
