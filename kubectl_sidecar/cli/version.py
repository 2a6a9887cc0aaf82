"""The version command: of kubectl-sidecar, and of the programs that it drives."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence

from kubectl_sidecar import __version__
from kubectl_sidecar.cli import flags
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.process.pipeline import Launcher, Stop

_DESCRIPTION = "Print the versions of kubectl-sidecar, kubectl, jq and Python."
_LONGEST_SECONDS = 10.0


def main(words: Sequence[str], environ: Mapping[str, str], launcher: Launcher) -> int:
    """Print a line for each; return 1 when kubectl or jq is not there."""
    flags.parser("version", _DESCRIPTION).parse_args(words)
    found = versions(launcher, environ)
    for name, version in found.items():
        print(name, version or "not found on PATH")
    return int(not all(found.values()))


def versions(launcher: Launcher, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the version of each program, empty for one that is not there."""
    found = {"kubectl-sidecar": __version__}
    for argv in (("kubectl", "version", "--client"), ("jq", "--version")):
        try:
            _, output = launcher.run([argv], environ, Stop(), _LONGEST_SECONDS)
        except RefreshFailed:
            output = b""
        number = re.search(r"\d+\.\d+[^\s,]*", output.decode(errors="replace"))
        found[argv[0]] = number[0] if number else ""
    return {**found, "python": platform.python_version()}
