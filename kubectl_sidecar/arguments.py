"""The words of the command line: what there is, and the help that people read."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence

from kubectl_sidecar import __version__, flags

_DESCRIPTION = """\
Keep files equal to what `kubectl ... | jq ...` says.

A task is a line of sh: a pipeline and the file that it fills. There is no shell; what sh would do and
kubectl-sidecar does not is an error. A file is replaced as a whole, when all of its line succeeded."""
_EXAMPLES = """\
examples:
  kubectl-sidecar run 'kubectl get pod $MYPOD -o json | jq .status > this-pod-status.json'
  kubectl-sidecar run --output-dir /data -f /etc/kubectl-sidecar/tasks
  kubectl-sidecar run --once --deadline 30s -f tasks.yaml      # for an init container or a Job
  kubectl-sidecar check -f tasks                               # in CI: needs no cluster

a task file:
  # comments, quotes and continuations as in sh; directives come first
  @every 5m @mode 0640  kubectl get nodes -o json |
      jq '[.items[].metadata.name]' > nodes.json

exit status:
  0  orderly stop; with --once: everything is fresh        2  bad flags, tasks, jq program; nothing ran
  1  a task failed (--once), or gave up (--max-failures)   3  a bug in kubectl-sidecar

signals: TERM, INT stop it (twice: at once); HUP reads the task files again; USR1 refreshes everything now"""
_ENVIRONMENT = """\
Every flag with a value, and every switch of `run`, has a default in the environment: --output-dir is
KUBECTL_SIDECAR_OUTPUT_DIR. Flags win. A KUBECTL_SIDECAR_ variable that is no flag is an error."""
_STATUS = """\
Show what the kubectl-sidecar of this container is doing, task by task.

AGE: since the last success. CHANGED: since the content last changed. NEXT: until the next attempt."""
_HEALTH = """\
Say in one line whether the kubectl-sidecar of this container is healthy; for exec probes.

Without a flag: it lives. Its supervisor makes progress, and no refresh is stuck; an API server out of reach
is no reason to restart it. Tasks with @optional count for neither --startup nor --ready."""
_HEALTH_EXAMPLES = """\
examples:
  startupProbe:    {exec: {command: [kubectl-sidecar, health, --startup]}, failureThreshold: 30}
  livenessProbe:   {exec: {command: [kubectl-sidecar, health]}, timeoutSeconds: 5}
  readinessProbe:  {exec: {command: [kubectl-sidecar, health, --ready, --max-age=5m]}, timeoutSeconds: 5}

exit status: 0 healthy; 1 not, and the line says which task and why; 2 bad flags"""


_FORMATTER = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)


class _Parser(argparse.ArgumentParser):
    """An abbreviated flag means something else as soon as there is another flag: it is an error."""

    def __init__(self, prog: str, **options: object) -> None:
        options.setdefault("formatter_class", _FORMATTER)
        super().__init__(prog, allow_abbrev=False, **options)  # type: ignore[arg-type] # options are argparse's own


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = _Parser("kubectl-sidecar", description=_DESCRIPTION, epilog=f"{_EXAMPLES}\n\n{_ENVIRONMENT}")
    top.add_argument("--version", action="version", version=f"kubectl-sidecar {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="keep the outputs up to date",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\n\n{_ENVIRONMENT}",
    )
    _add_tasks(run)
    _add_group(run, "outputs", flags.OUTPUT_FLAGS)
    _add_group(run, "the process", flags.PROCESS_FLAGS)
    check = commands.add_parser(
        "check",
        help="validate tasks, offline",
        description="Report every problem of the tasks: the lines, the programs on PATH, the jq programs."
        " Needs no cluster.",
    )
    _add_tasks(check)
    _add_status(commands.add_parser("status", help="what every task is doing", description=_STATUS))
    _add_health(
        commands.add_parser("health", help="for exec probes", description=_HEALTH, epilog=_HEALTH_EXAMPLES)
    )
    commands.add_parser("version", help="versions of kubectl-sidecar, kubectl, jq and Python")
    return top


def _add_tasks(command: argparse.ArgumentParser) -> None:
    tasks = command.add_argument_group("tasks", "With none given: /etc/kubectl-sidecar/tasks.")
    tasks.add_argument(
        "lines", metavar="LINE", nargs="*", help="a task line, such as 'kubectl get pod p | cat > p'"
    )
    for flag in flags.TASK_FLAGS:
        flag.add_to(tasks)


def _add_group(command: argparse.ArgumentParser, title: str, members: Sequence[flags.Flag]) -> None:
    group = command.add_argument_group(title)
    for flag in members:
        flag.add_to(group)


def _add_status(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", choices=["table", "json"], default="table", dest="form", help="[table]")
    command.add_argument("--watch", action="store_true", help="refresh the table every second, until Ctrl-C")
    flags.READ_STATUS_FILE.add_to(command)


def _add_health(command: argparse.ArgumentParser) -> None:
    probe = command.add_mutually_exclusive_group()
    probe.set_defaults(probe="liveness")
    probe.add_argument(
        "--startup", dest="probe", action="store_const", const="startup", help="every task has succeeded once"
    )
    probe.add_argument(
        "--ready",
        dest="probe",
        action="store_const",
        const="readiness",
        help="every task has succeeded lately",
    )
    for flag in flags.HEALTH_FLAGS:
        flag.add_to(command)
