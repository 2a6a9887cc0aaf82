"""From the words of the command line to an exit status, with the one error boundary."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

# Every probe pays for what is imported here: a command's own file is imported when it is run.
COMMANDS = {
    "run": "keep the outputs up to date",
    "check": "validate tasks, offline; with --live, whether the cluster allows what they need",
    "rbac": "print the Roles that tasks need, no more",
    "status": "what every task is doing",
    "health": "for exec probes",
    "version": "versions of kubectl-sidecar, kubectl, jq and Python",
}
OK, FAILED, USAGE, BUG = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] not in COMMANDS:
        return _guarded(lambda: _help(words))
    command, *words = words
    if command in ("status", "health"):
        return _guarded(lambda: _run(command, words))
    return _with_signals(command, words)


def _with_signals(command: str, words: Sequence[str]) -> int:
    """Run a command that starts processes."""
    # Where stderr is closed, no other file may get its number: log lines would be written into it.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    from kubectl_sidecar.process.signals import Groups, Signals

    groups = Groups()
    # A `run` that is stopped before it has begun anything has done all that it was asked for.
    stopped_status = OK if command == "run" else None
    signals = Signals(groups, init=os.getpid() == 1, stopped_status=stopped_status)

    def run() -> int:
        from kubectl_sidecar.process.pipeline import Launcher

        means = (signals,) if command == "run" else ()
        return _run(command, words, Launcher(groups), *means)

    # Before the rest of the program is loaded: until PID 1 handles SIGTERM, the kernel drops it.
    with signals.handled():
        return signals.run(lambda: _guarded(run))


def _run(command: str, words: Sequence[str], *means: object) -> int:
    """Call the main() of a command's own file."""
    status: int = importlib.import_module(f"kubectl_sidecar.cli.{command}").main(words, os.environ, *means)
    return status


def _guarded(work: Callable[[], int]) -> int:
    """Return what `work` returns, or the exit status for what it raises, and say why."""
    try:
        try:
            status = work()
        except SystemExit as end:  # argparse: 0 after --help, 2 after an error
            status = int(end.code or 0)
        print(end="", flush=True)
        return status
    except BrokenPipeError:  # who read stdout has gone, as in `kubectl-sidecar check | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes it at exit
        return FAILED
    except Exception as error:  # noqa: BLE001 (the boundary)
        return _report(error)


def _report(error: Exception) -> int:
    from kubectl_sidecar.errors import InvalidInput, SidecarError

    if isinstance(error, InvalidInput):
        print(error, file=sys.stderr)
        return USAGE
    if isinstance(error, SidecarError):
        print(f"kubectl-sidecar: {error}", file=sys.stderr)
        return FAILED
    import traceback

    traceback.print_exception(error)
    return BUG


def _help(words: Sequence[str]) -> int:
    """Print help, the version, or what is wrong with the words; raises SystemExit."""
    from kubectl_sidecar import __version__
    from kubectl_sidecar.cli import flags

    parser = flags.parser("", flags.DESCRIPTION, flags.EPILOG)
    parser.add_argument("--version", action="version", version=f"kubectl-sidecar {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    parser.parse_args(words)
    parser.error("the COMMAND comes first")
