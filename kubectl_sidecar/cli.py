"""The command line: subcommands, the exit statuses, and the one error boundary."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from kubectl_sidecar import __version__, flags
from kubectl_sidecar.errors import InvalidInput, SidecarError
from kubectl_sidecar.shutdown import SecondSignal, Signals, Stopping

OK, FAILED, USAGE, BUG = 0, 1, 2, 3

_DESCRIPTION = """\
Keep files equal to what `kubectl ... | jq ...` says.

A task is a line of sh: a pipeline and the file that it fills. There is no shell; what sh would do and
kubectl-sidecar does not is an error. A file is replaced as a whole, and only when all of its line succeeded."""
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


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    plain = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("kubectl-sidecar", description=_DESCRIPTION, formatter_class=plain, epilog=_EXAMPLES)
    top.add_argument("--version", action="version", version=f"kubectl-sidecar {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run", help="keep the outputs up to date", description=_DESCRIPTION, formatter_class=plain, epilog=_EXAMPLES
    )
    _add_tasks(run)
    _add_group(run, "outputs", flags.OUTPUT_FLAGS)
    _add_group(run, "the process", flags.PROCESS_FLAGS)

    check = commands.add_parser(
        "check", help="validate tasks, offline", formatter_class=plain,
        description="Report every problem of the tasks: the lines, the programs on PATH, the jq programs. Needs no cluster."
    )  # fmt: skip
    _add_tasks(check)
    commands.add_parser("version", help="versions of kubectl-sidecar, kubectl, jq and Python")
    return top


def _add_tasks(command: argparse.ArgumentParser) -> None:
    tasks = command.add_argument_group("tasks", "With none given: /etc/kubectl-sidecar/tasks.")
    tasks.add_argument("lines", metavar="LINE", nargs="*", help="a task line, such as 'kubectl get pod p | cat > p'")
    for flag in flags.TASK_FLAGS:
        flag.add_to(tasks)


def _add_group(command: argparse.ArgumentParser, title: str, members: Sequence[flags.Flag]) -> None:
    group = command.add_argument_group(title)
    for flag in members:
        flag.add_to(group)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = parser().parse_args(argv)
    # Before the rest of the program is loaded: until PID 1 handles SIGTERM, the kernel drops it.
    with Signals(init=os.getpid() == 1).handled() as signals:
        try:
            return _command(given, signals)
        except InvalidInput as error:
            print(error, file=sys.stderr)
            return USAGE
        except SidecarError as error:
            print(f"kubectl-sidecar: {error}", file=sys.stderr)
            return FAILED
        except Stopping:
            return OK  # before anything had begun
        except SecondSignal as error:
            os._exit(128 + error.number)  # the threads that did not end must not hold up the end
        except Exception:
            traceback.print_exc()
            return BUG


def _command(given: argparse.Namespace, signals: Signals) -> int:
    """Load only what the command needs: probes run every few seconds, in every Pod."""
    if given.command == "version":
        from kubectl_sidecar.versions import print_versions

        return print_versions(os.environ)
    from kubectl_sidecar.run import check, run

    return check(given, os.environ) if given.command == "check" else run(given, os.environ, signals)
