"""The version command: of kubectl-sidecar, and of the programs that it drives."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping

from kubectl_sidecar import __version__
from kubectl_sidecar.children import Children
from kubectl_sidecar.commands import Running
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.shutdown import Wakeup

_COMMANDS = {"kubectl": ("kubectl", "version", "--client"), "jq": ("jq", "--version")}


def print_versions(environ: Mapping[str, str]) -> int:
    """Print a line for each; returns 1 when kubectl or jq is not there."""
    print(f"kubectl-sidecar {__version__}")
    status = 0
    for name, argv in _COMMANDS.items():
        version = _version(argv, environ)
        print(f"{name} {version or 'not found on PATH'}")
        status |= version is None
    print(f"python {platform.python_version()}")
    return status


def _version(argv: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    with open(os.memfd_create("version", os.MFD_CLOEXEC), "rb", buffering=0) as output:
        try:
            running = Running(
                Children(), [argv], environ, stdin=None, stdout=output.fileno(), max_output=None, grace=0
            )
        except RefreshFailed:
            return None
        with running as stages:
            stages.finish(Wakeup(), 10)
        output.seek(0)
        found = re.search(r"\d+\.\d+[^\s,]*", output.read().decode(errors="replace"))
        return found[0] if found else None
