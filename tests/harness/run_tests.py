"""From the locked environment to a test run: the program installed, the tools fetched, the servers built."""

from __future__ import annotations

import argparse
import collections
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
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
SERVERS = ("etcd", "kube-apiserver", gobuild.OLDEST)
NODE = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
)
SLOWEST = "--durations=10"
# About half of the time of all tests on the newest Python.
BESIDE = "image or node or (unit and slow)"
# A Python, and what its pytest is told.
Run = tuple[Path, Sequence[str]]


class Lane(threading.Thread):
    """Test runs one after the other; what they print is shown as it comes, or kept."""

    def __init__(self, runs: Sequence[Run], *, shown: bool) -> None:
        super().__init__()
        self.status = 0
        self.kept: list[str] = []
        self.summaries: list[str] = []
        self._runs = runs
        self._shown = shown
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def run(self) -> None:
        for python, arguments in self._runs:
            if self._is_stopped:
                return
            command = [str(python), "-u", "-m", "pytest", *arguments]
            line = ""
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                self._process = process
                for line in process.stdout or ():
                    self._show(line)
            self.summaries.append(line)
            self.status = self.status or process.returncode

    def stop(self) -> None:
        """End it in order: tests have things to tear down."""
        self._is_stopped = True
        if self._process is not None:
            self._process.terminate()

    def _show(self, line: str) -> None:
        if self._shown:
            print(line, end="", flush=True)
        else:
            self.kept.append(line)


def run_at_once(*lanes: Sequence[Run]) -> int:
    """Run lanes of tests side by side, since most of their time is waiting; return the worst exit status.

    The first one is shown as it goes, the others after it, and at last the sum of them in pytest's words.
    """
    began = time.monotonic()
    running = [Lane(runs, shown=not number) for number, runs in enumerate(lanes)]
    # Ctrl-C reaches pytest by itself.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stop(running))
    for lane in running:
        lane.start()
    for lane in running:
        lane.join()
        print("".join(lane.kept), end="")
    summaries = [summary for lane in running for summary in lane.summaries]
    if len(summaries) > 1:
        print(f"===== {added(summaries)} in {time.monotonic() - began:.2f}s =====")
    return max((lane.status for lane in running), key=abs)


def stop(lanes: Iterable[Lane]) -> None:
    for lane in lanes:
        lane.stop()


def added(summaries: Sequence[str]) -> str:
    """`3 failed, 40 passed` for `1 failed, 20 passed in 3s` and `2 failed, 20 passed in 4s`."""
    counts: collections.Counter[str] = collections.Counter()
    for number, what in re.findall(r"(\d+) (?!deselected)([a-z]+)", " ".join(summaries)):
        counts[what] += int(number)
    return ", ".join(f"{number} {what}" for what, number in counts.items())


def halves() -> list[list[str]]:
    """The unit tests, divided so that both halves take the same time."""
    parts: list[list[str]] = [[], []]
    for path in sorted(Path("tests/unit").iterdir()):
        if path.is_dir() or path.name.startswith("test_"):
            parts[path.name in ("cli", "kubectl", "publish", "status")].append(str(path))
    return parts


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
    with tempfile.TemporaryDirectory(prefix="kubectl-sidecar-test-") as scratch:
        newest = install(environment(pick("newest")), Path(scratch, "newest"))
        if extra:
            return run_at_once([(newest, options)])
        beside = [(newest, ["-m", BESIDE, *options])]
        if pick("oldest") != pick("newest"):
            oldest = install(environment(pick("oldest")), Path(scratch, "oldest"))
            beside.insert(0, (oldest, ["-m", "(unit and not slow) or smoke", *options]))
        say(
            "all tests on the newest Python; beside them unit and smoke tests on the oldest, images and nodes"
        )
        return run_at_once([(newest, ["-m", f"not ({BESIDE})", *options])], beside)


def run_unit(options: Sequence[str], alone: bool) -> int:
    """They test the clone, in the environment that runs this file: nothing is installed."""
    python, selection = Path(sys.executable), ["-m", "unit and not slow", *options]
    if not alone:
        return run_at_once(*([(python, [*selection, *half])] for half in halves()))
    if not any(Path(word.partition("::")[0]).exists() for word in options):
        selection.append("tests/unit")  # to collect all the others takes a second
    return run_at_once([(python, selection)])


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
