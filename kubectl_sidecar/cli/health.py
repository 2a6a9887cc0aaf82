"""The health command, for exec probes: it must be quick, so its file imports little."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from kubectl_sidecar.status.document import Unreadable, find
from kubectl_sidecar.status.health import unhealthy, verdict
from kubectl_sidecar.units import parse_duration

_MAX_AGE_VARIABLE = "KUBECTL_SIDECAR_MAX_AGE"
_DESCRIPTION = """\
Say in one line whether the kubectl-sidecar of this container is healthy; for
exec probes.

Without a flag: it lives. Its supervisor makes progress; an API server out of
reach is no reason to restart it. Tasks with @optional count for neither
--startup nor --ready."""
_EPILOG = """\
examples:
  startupProbe:
    exec: {command: [kubectl-sidecar, health, --startup]}
  livenessProbe:
    exec: {command: [kubectl-sidecar, health]}
  readinessProbe:
    exec: {command: [kubectl-sidecar, health, --ready, --max-age=5m]}

exit status:
  0  healthy
  1  not, and the line says which task and why
  2  bad flags"""
_AGE = "with --ready: how old a success may be [3 periods]"
_FILE = "read this document instead of this container's own"


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the verdict; return the exit status."""
    parser = argparse.ArgumentParser(
        "kubectl-sidecar health",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        # Without a width, argparse would load three compression libraries to learn that of the terminal.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=78),
        allow_abbrev=False,
    )
    probe = parser.add_mutually_exclusive_group()
    probe.add_argument("--startup", action="store_true", help="every task has succeeded once")
    probe.add_argument("--ready", action="store_true", help="every task has succeeded lately")
    parser.add_argument("--max-age", metavar="DURATION", help=_AGE)
    parser.add_argument("--status-file", metavar="PATH", help=_FILE)
    given = parser.parse_args(words)
    text = environ.get(_MAX_AGE_VARIABLE) if given.max_age is None else given.max_age
    try:
        max_age = parse_duration(text) if text else None
    except ValueError as error:
        parser.error(f"{_MAX_AGE_VARIABLE if given.max_age is None else '--max-age'}: {error}")
    probed = "startup" if given.startup else "readiness" if given.ready else "liveness"
    try:
        problem = unhealthy(find(given.status_file, environ), probed, max_age)
    except Unreadable as error:
        problem = str(error)
    print(verdict(probed, problem))
    return int(problem is not None)
