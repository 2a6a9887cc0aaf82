"""The demo: kubectl-sidecar beside a Pod's status that changes, in a throwaway cluster or the user's own."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import NoReturn

from tests.harness import gobuild, signals
from tests.harness.control_plane import Programs, control_plane
from tests.harness.demo_cluster import Cluster, account_kubeconfig, populate
from tests.harness.environment import environment, install, pick
from tests.harness.network import Network
from tests.harness.packages import need
from tests.harness.processes import Process
from tests.harness.progress import Unavailable, say
from tests.harness.tools import WrongChecksum, tools
from tests.harness.waiting import wait_until

POD = "kubectl get pod $MYPOD -o json | jq .status > this-pod-status.json"
NODE = "kubectl get node $MYNODE -o json | jq .status > this-node-status.json"
OUTPUTS = ("this-pod-status.json", "this-node-status.json")
SECONDS_BETWEEN_CHANGES = 3
PROGRAMS = {"ip": "iproute2", "openssl": "openssl", "setpriv": "util-linux"}


def throwaway_cluster(stack: contextlib.ExitStack, directory: Path, kubectl: Path) -> Cluster:
    """An etcd and a kube-apiserver of our own, in a network that only we see where that is permitted."""
    need(PROGRAMS, "a throwaway cluster")
    programs = Programs(gobuild.program("etcd"), gobuild.program("kube-apiserver"), kubectl)
    say("starting etcd and kube-apiserver")
    (directory / "cluster").mkdir()
    running = stack.enter_context(control_plane(directory / "cluster", Network(), programs))
    return Cluster((str(kubectl), "--kubeconfig", str(running.admin_kubeconfig)), own=True)


class Demo:
    """The program and its outputs, shown as they change."""

    def __init__(self, process: Process, cluster: Cluster, name: str, outputs: Path) -> None:
        self.process = process
        self.cluster = cluster
        self.name = name
        self.outputs = outputs
        self._shown = 0

    def show_first(self) -> None:
        wait_until(self._all_there, timeout=30, what="the files are not there")
        self._show_log()
        for name in OUTPUTS:
            self._show(name)

    def change_once(self, number: int) -> None:
        """Change the Pod's status, and show the file once it has followed."""
        text = f"change {number} at {time.strftime('%H:%M:%S')}"
        patch = json.dumps({"status": {"phase": "Running", "message": text}})
        say(f"changing the Pod's status: {patch}")
        target = ["pod", self.name, "--namespace", self.name]
        self.cluster.kubectl("patch", *target, "--subresource=status", "--type=merge", "--patch", patch)
        started = time.monotonic()
        wait_until(lambda: text in self._content(OUTPUTS[0]), timeout=30, what="the file does not follow")
        say(f"the file followed {time.monotonic() - started:.1f} s later")
        self._show_log()
        self._show(OUTPUTS[0])

    def idle(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(seconds)
            raise Unavailable(f"kubectl-sidecar ended with {status}:\n{self.process.tail()}")

    def _all_there(self) -> bool:
        self.idle(0)
        return all((self.outputs / name).exists() for name in OUTPUTS)

    def _content(self, name: str) -> str:
        return (self.outputs / name).read_text()

    def _show(self, name: str) -> None:
        print(f"--- {name}\n{self._content(name)}", end="", flush=True)

    def _show_log(self) -> None:
        lines = self.process.log.read_text().splitlines()
        for line in lines[self._shown :]:
            print(f"    {line}", file=sys.stderr, flush=True)
        self._shown = len(lines)


def start_sidecar(
    stack: contextlib.ExitStack, directory: Path, cluster: Cluster, name: str, node: str, path: str
) -> Demo:
    program = install(environment(pick("newest")), directory / "environment").with_name("kubectl-sidecar")
    kubeconfig = account_kubeconfig(cluster, name, directory)
    outputs = directory / "outputs"
    outputs.mkdir()
    words = ["run", "--output-dir", str(outputs), "--every", "2s", POD, NODE]
    say(
        "as that account: kubectl-sidecar " + " ".join(f"'{word}'" if " " in word else word for word in words)
    )
    own = {"KUBECONFIG": str(kubeconfig), "MYPOD": name, "MYNODE": node}
    places = {"PATH": path, "HOME": str(directory), "TMPDIR": str(directory)}
    process = Process([program, *words], directory / "log", env={**cluster.environment(), **places, **own})
    stack.callback(process.stop)
    return Demo(process, cluster, name, outputs)


def show(once: bool, context: str) -> None:
    """Set up, show, and take down again however it ends."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubectl-sidecar-demo-")))
        prefix = tools()
        if context:
            cluster = Cluster((str(prefix / "kubectl"), "--context", context), own=False)
        else:
            cluster = throwaway_cluster(stack, directory, prefix / "kubectl")
        name = f"kubectl-sidecar-demo-{uuid.uuid4().hex[:6]}"
        node = populate(stack, cluster, name)
        path = f"{prefix}:{os.environ['PATH']}"
        demo = start_sidecar(stack, directory, cluster, name, node, path)
        demo.show_first()
        for number in itertools.count(1):
            demo.change_once(number)
            if once:
                break
            say("Ctrl-C ends it")
            demo.idle(SECONDS_BETWEEN_CHANGES)
        ignore_signals()


def ignore_signals() -> None:
    """From here on things are taken down, and that is not to be interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt(*_: object) -> NoReturn:
    ignore_signals()
    say("taking everything down")
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser("scripts/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="one change, then end")
    parser.add_argument(
        "--context", default="", help="use this context of your kubeconfig, not a throwaway cluster"
    )
    chosen = parser.parse_args()
    signals.set_defaults()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        show(chosen.once, chosen.context)
    except KeyboardInterrupt:
        return 0
    except (Unavailable, WrongChecksum, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
