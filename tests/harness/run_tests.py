"""From the locked environment to a test run: the program installed, the tools fetched, the servers built."""

from __future__ import annotations

import argparse
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.harness import gobuild, signals, tools
from tests.harness.environment import environment, install, pick
from tests.harness.packages import need
from tests.harness.progress import Unavailable, say

PACKAGES = {
    "dash": "dash",
    "ip": "iproute2",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
SERVERS = ("etcd", "kube-apiserver")
NODE = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
)
SLOWEST = "--durations=10"


def pytest(python: Path, arguments: Sequence[str], beside: Sequence[subprocess.Popen[str]] = ()) -> int:
    """Run pytest and what is beside it to their end, also when told to stop: they have to tear down."""
    running = [subprocess.Popen([python, "-m", "pytest", *arguments], text=True), *beside]

    def stop(*_: object) -> None:
        for process in running:
            process.terminate()

    # Ctrl-C reaches them by itself.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, stop)
    return max((process.wait() for process in running), key=abs)


def side_by_side(python: Path, arguments: Sequence[str]) -> int:
    """Run the unit tests in two halves at once: most of their time is that of programs that they start."""
    halves: list[list[Path]] = [[], []]
    for path in sorted(Path("tests/unit").iterdir()):
        if path.is_dir() or path.name.startswith("test_"):
            halves[path.name in ("cli", "kubectl", "publish", "status", "supervise")].append(path)
    with tempfile.TemporaryFile("w+") as printed:
        command = [str(python), "-m", "pytest", *arguments, *map(str, halves[1])]
        other = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, text=True)
        status = pytest(python, [*arguments, *map(str, halves[0])], [other])
        printed.seek(0)
        print(printed.read(), end="")
    return status


def prepare(unit_only: bool, required: bool) -> None:
    """Get what the tests need, with progress shown, and say what cannot be had."""
    servers = [] if unit_only else [*SERVERS, *(NODE if os.geteuid() == 0 else ())]
    steps: list[Callable[[], object]] = [functools.partial(need, PACKAGES, "the tests"), put_tools_on_path]
    steps += [functools.partial(gobuild.program, name) for name in servers]
    for step in steps:
        try:
            step()
        except Unavailable as error:
            if required:
                raise
            say(f"some tests will be left out: {error}")


def keep_bytecode() -> None:
    """The tests start Python hundreds of times: without bytecode each time takes twice as long."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def put_tools_on_path() -> None:
    os.environ["PATH"] = f"{tools.tools()}:{os.environ['PATH']}"


def run_all(unit_only: bool, required: bool, extra: Sequence[str]) -> int:
    prepare(unit_only, required)
    options = [*(["--require", "all", SLOWEST] if required else []), *extra]
    if unit_only:
        return run_unit(options, alone=bool(extra))
    status = 0
    with tempfile.TemporaryDirectory(prefix="kubectl-sidecar-test-") as scratch:
        if not extra and pick("oldest") != pick("newest"):
            say("the oldest Python: unit tests and a smoke test")
            python = install(environment(pick("oldest")), Path(scratch, "oldest"))
            status = pytest(python, ["-m", "(unit and not slow) or smoke", *options])
        say("the newest Python: all tests")
        python = install(environment(pick("newest")), Path(scratch, "newest"))
        return pytest(python, options) or status


def run_unit(options: Sequence[str], alone: bool) -> int:
    """They test the clone, in the environment that runs this file: nothing is installed."""
    selection = ["-m", "unit and not slow", *options]
    if not alone:
        return side_by_side(Path(sys.executable), selection)
    if not any(Path(word.partition("::")[0]).exists() for word in options):
        selection.append("tests/unit")  # to collect all the others takes a second
    return pytest(Path(sys.executable), selection)


def main() -> int:
    parser = argparse.ArgumentParser("scripts/test", description="Set everything up and run the tests.")
    parser.add_argument("--unit", action="store_true", help="the fast ones, which need no cluster")
    parser.add_argument("--require", choices=["all"], help="a part that cannot be run is a failure")
    parser.epilog = "Other arguments go to pytest, which then runs on the newest Python only."
    chosen, extra = parser.parse_known_args()
    signals.set_defaults()
    keep_bytecode()
    try:
        return run_all(chosen.unit, chosen.require == "all", extra)
    except (Unavailable, tools.WrongChecksum) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
