"""The run command: from flags and task files to a supervisor."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kubectl_sidecar import __version__
from kubectl_sidecar.cli import flags
from kubectl_sidecar.cli.check import loader
from kubectl_sidecar.cli.version import versions
from kubectl_sidecar.errors import InvalidInput, Position, Problem
from kubectl_sidecar.kubectl import kubeconfig
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.process.pipeline import Launcher
from kubectl_sidecar.process.signals import Signals
from kubectl_sidecar.publish.directory import sweep
from kubectl_sidecar.status.document import NAME, candidates
from kubectl_sidecar.status.log import log, set_up_logging
from kubectl_sidecar.status.recorder import Recorder
from kubectl_sidecar.status.rundir import runtime_directory
from kubectl_sidecar.supervise.refresh import Context
from kubectl_sidecar.supervise.supervisor import Supervisor
from kubectl_sidecar.task import Settings, Task


def main(words: Sequence[str], environ: Mapping[str, str], launcher: Launcher, signals: Signals) -> int:
    """Keep the outputs up to date; return the exit status."""
    settings = _settings(words, environ)
    source = loader(settings, environ, launcher)
    tasks = _load(source, settings, environ)
    with contextlib.closing(set_up_logging(settings.log_format)):
        ids = os.geteuid(), os.getegid()
        log.info("kubectl-sidecar %s: %d tasks, UID %d, GID %d", __version__, len(tasks), *ids)
        sweep(settings.output_dir, [task.output for task in tasks])
        with runtime_directory(environ) as directory:
            cache = f"{directory}/kubectl" if directory else None
            if cache is None and not environ.get("KUBECACHEDIR"):
                log.warning(kubeconfig.NO_CACHE, ", ".join(map(os.path.dirname, candidates(environ))))
            launcher = replace(
                launcher, grace=settings.grace, max_output=settings.max_output, directory=directory
            )
            # Probes read the first, the app the other: what happens to its volume is no reason to restart us.
            documents = [f"{directory}/{NAME}" if directory else None, settings.status_file]
            recorder = Recorder([*filter(None, documents)])
            with contextlib.closing(recorder):
                environment = kubeconfig.stage_environment(environ, launcher.memory_file, cache)
                context = Context(
                    settings=settings,
                    launcher=launcher,
                    environment=environment,
                    watch_environment=kubeconfig.watch_environment(environment),
                    cache=kubeconfig.DiscoveryCache(cache),
                    recorder=recorder,
                    slots=threading.Semaphore(settings.concurrency),
                )
                supervisor = Supervisor(context, source, signals)
                if settings.http:
                    from kubectl_sidecar.status import http, metrics  # 2 MB, for those who need it

                    page = metrics.Metrics(recorder, supervisor.watches, versions(launcher, environ))
                    http.Server(settings.http, recorder.document, page.render, settings.max_age)
                return supervisor.run(tasks)


def _settings(words: Sequence[str], environ: Mapping[str, str]) -> Settings:
    parser = flags.parser("run", flags.DESCRIPTION, flags.EPILOG)
    sections = {"outputs": flags.OUTPUT_FLAGS, "the process": flags.PROCESS_FLAGS}
    settings = flags.settings(parser, words, environ, sections)
    return replace(settings, output_dir=os.path.abspath(settings.output_dir))


def _load(source: Loader, settings: Settings, environ: Mapping[str, str]) -> tuple[Task, ...]:
    """Load the tasks; raises InvalidInput with every problem of theirs and of what is around them."""
    problems: list[Problem] = []
    if not os.path.isdir(settings.output_dir):
        text = f"{settings.output_dir} is not a directory; make it, or mount a volume there"
        problems.append(Problem(Position("--output-dir"), text))
    if missing := kubeconfig.problem(environ):
        problems.append(Problem(Position("KUBECONFIG"), missing))
    if settings.http and importlib.util.find_spec("prometheus_client") is None:
        text = "prometheus_client is not installed; pip install 'kubectl-sidecar[metrics]', or leave it out"
        problems.append(Problem(Position("--http"), text))
    try:
        tasks = source.load()
    except InvalidInput as error:
        raise InvalidInput([*problems, *error.problems]) from None
    if problems:
        raise InvalidInput(problems)
    return tasks
