"""The front door: from the words of a command to its exit status, with the one error boundary."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Every probe pays for what is imported here: all else is imported where it is needed.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from kubectl_sidecar.shutdown import Signals

OK, FAILED, USAGE, BUG = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["health"]:
        from kubectl_sidecar.health import quick

        if (status := quick(words[1:], os.environ)) is not None:
            return status
    from kubectl_sidecar.shutdown import Signals, Stopping

    try:
        # Before the rest of the program is loaded: until PID 1 handles SIGTERM, the kernel drops it.
        with Signals(init=os.getpid() == 1).handled() as signals:
            return _guarded(words, signals)
    except Stopping:
        return OK  # before anything had begun


def _guarded(words: Sequence[str], signals: Signals) -> int:
    from kubectl_sidecar.errors import InvalidInput, SidecarError
    from kubectl_sidecar.shutdown import SecondSignal

    try:
        return _command(words, signals)
    except InvalidInput as error:
        print(error, file=sys.stderr)
        return USAGE
    except SidecarError as error:
        print(f"kubectl-sidecar: {error}", file=sys.stderr)
        return FAILED
    except SecondSignal as error:
        os._exit(128 + error.number)  # the threads that did not end must not hold up the end
    except BrokenPipeError:  # `kubectl-sidecar check | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception:  # noqa: BLE001 (the boundary)
        import traceback

        traceback.print_exc()
        return BUG


def _command(words: Sequence[str], signals: Signals) -> int:
    from kubectl_sidecar.arguments import parser

    given = parser().parse_args(words)
    if given.command == "version":
        from kubectl_sidecar.versions import print_versions

        return print_versions(os.environ)
    if given.command in ("status", "health"):
        from kubectl_sidecar import table

        show = table.status if given.command == "status" else table.health
        return show(given, os.environ, signals)
    from kubectl_sidecar.run import check, run

    return check(given, os.environ) if given.command == "check" else run(given, os.environ, signals)
