"""Run the parts that are named, or all: each prints its figures as it goes."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import api, refresh, watch
from tests.bench.bed import Bed
from tests.harness import gobuild, signals, tools
from tests.harness.access import Namespace
from tests.harness.control_plane import Programs, control_plane
from tests.harness.environment import environment, install, pick
from tests.harness.network import Network
from tests.harness.sidecar import Launcher

PARTS: dict[str, Callable[[Bed], None]] = {
    "cpu": refresh.cpu,
    "start": refresh.start,
    "memory": refresh.memory,
    "flat": refresh.flat,
    "watch": watch.latency,
    "idle": watch.idle,
    "api": api.api,
}


def main() -> None:
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default"
    )
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"no such part: {', '.join(unknown)}")
    signals.set_defaults()
    signals.hang_up_children()
    directory = tools.tools()
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
    programs = Programs(gobuild.program("etcd"), gobuild.program("kube-apiserver"), directory / "kubectl")
    # In memory, as the volume of example.yaml: a disk's own time would hide what is measured.
    with tempfile.TemporaryDirectory(prefix="kubectl-sidecar-bench-", dir="/dev/shm") as scratch:
        python = install(environment(pick("newest")), Path(scratch, "environment"))
        plane_directory = Path(scratch, "control-plane")
        plane_directory.mkdir()
        with control_plane(plane_directory, Network(), programs) as plane:
            namespace = Namespace(plane, Path(scratch))
            launcher = Launcher(python.with_name("kubectl-sidecar"), directory, Path(scratch))
            bed = Bed(namespace, launcher, Path(scratch))
            try:
                for part in chosen:
                    PARTS[part](bed)
            finally:
                launcher.destroy_all()


if __name__ == "__main__":
    main()
