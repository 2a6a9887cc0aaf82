"""The check command: every problem of the tasks, or what was understood."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from kubectl_sidecar.cli import flags
from kubectl_sidecar.errors import RefreshFailed, visible
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.process.pipeline import Launcher, Stop
from kubectl_sidecar.task import Settings, Stage, Task
from kubectl_sidecar.units import format_duration

_DESCRIPTION = """\
Report every problem of the tasks: the lines, the programs on PATH, the jq
programs. Needs no cluster.

With --live it asks the cluster then whether everything that the tasks need is
allowed."""
_EPILOG = """\
exit status:
  0  valid, and allowed
  1  not allowed, or no cluster can be asked
  2  bad flags or tasks"""
_WATCHED = {
    True: "each object is fed to the rest of the line; needs the verbs get, list and watch for it",
    False: "each change runs the line again; needs the verbs list and watch for what it lists or gets",
}
# jq compiles in milliseconds; a program that computes for ever is not load time's business.
_PROBE_SECONDS = 2.0


def main(words: Sequence[str], environ: Mapping[str, str], launcher: Launcher) -> int:
    """Validate, and say what was understood; return the exit status."""
    parser = flags.parser("check", _DESCRIPTION, _EPILOG)
    settings = flags.settings(parser, words, environ, {"": flags.CHECK_FLAGS})
    if settings.as_account and not settings.live:
        parser.error("--as goes with --live")
    tasks = loader(settings, environ, launcher).load()
    for task in tasks:
        print(_described(task))
        for warning in task.watch.warnings if task.watch else ():
            print(f"warning: {task.where}: {visible(task.output)}: {warning}")
    if not settings.live:
        return 0
    from kubectl_sidecar.cli import live  # `run` pays for whatever is imported here

    return live.check(tasks, settings, environ, launcher)


def loader(settings: Settings, environ: Mapping[str, str], launcher: Launcher) -> Loader:
    """Return what reads the tasks, and has jq compile its programs."""

    def probe(argv: tuple[str, ...]) -> tuple[int, str]:
        try:
            ended, _ = launcher.run([argv], environ, Stop(), _PROBE_SECONDS)
        except RefreshFailed:
            return 0, ""  # it cannot be started just now: that is for the refreshes to say
        return ended.statuses[0], ended.stderrs[0]

    return Loader(settings, environ, probe)


def _described(task: Task) -> str:
    watch = f"watch ({_WATCHED[task.watch.feeds]}), " if task.watch else ""
    times = f"every {format_duration(task.every)}, timeout {format_duration(task.timeout)}"
    text = f"{watch}{times}, mode {task.mode:04o}, on-missing {task.on_missing}"
    text += ", directory" * task.output.endswith("/")
    if task.on_change:
        text += f", on-change: {_programs(task.on_change.stages) or 'POST'}"
    text += ", allow-empty" * task.allow_empty + ", optional" * (not task.required)
    return f"{task.where}: {visible(task.output)}: {_programs(task.stages)}; {text}"


def _programs(stages: Sequence[Stage]) -> str:
    # Without their words, which may hold values of variables.
    return visible(" | ".join(os.path.basename(stage.argv[0]) for stage in stages))
