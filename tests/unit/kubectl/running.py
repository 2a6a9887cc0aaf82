"""Run a pipeline of real programs, as the sidecar runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from kubectl_sidecar.process.pipeline import Ended, Launcher, Stop
from kubectl_sidecar.process.signals import Groups


def run(*argvs: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[Ended, bytes]:
    """Return how it ended, and what it wrote."""
    launcher = Launcher(Groups(), grace=5.0, max_output=1 << 20, directory=None)
    return launcher.run(argvs, environment, Stop(), 20.0)
