"""The demo: what kubectl-sidecar is for, shown in a throwaway cluster or the user's own."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tests.harness import gobuild, signals
from tests.harness.control_plane import ControlPlane, Programs, control_plane
from tests.harness.demo_cluster import Cluster, account_kubeconfig, populate
from tests.harness.environment import environment, install, pick
from tests.harness.network import Network
from tests.harness.packages import need
from tests.harness.processes import Process
from tests.harness.progress import Unavailable, say
from tests.harness.tools import WrongChecksum, tools
from tests.harness.waiting import wait_until

POD = "@watch kubectl get pod $MYPOD -o json | jq .status > this-pod-status.json"
NODE = "@every 2s kubectl get node $MYNODE -o json | jq .status.conditions > this-node-status.json"
SETTINGS = "kubectl get configmap settings -o json | jq .data > settings.json"
OUTPUTS = ("this-pod-status.json", "this-node-status.json")
CHANGES = 3
PROGRAMS = {"ip": "iproute2", "openssl": "openssl", "setpriv": "util-linux"}


def throwaway_cluster(stack: contextlib.ExitStack, directory: Path, kubectl: Path) -> ControlPlane:
    """An etcd and a kube-apiserver of our own, in a network that only we see where that is permitted."""
    need(PROGRAMS, "a throwaway cluster")
    programs = Programs(gobuild.program("etcd"), gobuild.program("kube-apiserver"), kubectl)
    say("starting etcd and kube-apiserver")
    (directory / "cluster").mkdir()
    return stack.enter_context(control_plane(directory / "cluster", Network(), programs))


class Demo:
    """The program, what it is run with, and what is seen of it."""

    def __init__(self, program: Path, cluster: Cluster, directory: Path, environment: dict[str, str]) -> None:
        self._program = program
        self._cluster = cluster
        self._environment = environment
        self._outputs = directory / "outputs"
        self._outputs.mkdir()
        self._name = environment["MYPOD"]
        self._log = directory / "log"
        self._shown = 0
        self._seen: list[tuple[str, str]] = []

    def allow(self, *lines: str) -> None:
        """Give the account the rights that these tasks need, in the program's own words."""
        account = f"{self._name}/{self._name}"
        say(f"kubectl-sidecar rbac --service-account {account} TASKS | kubectl apply -f -")
        roles = self._run("rbac", "--service-account", account, *lines)
        self._cluster.kubectl("apply", "-f", "-", stdin=roles)

    def start(self, stack: contextlib.ExitStack) -> None:
        words = ["run", "--output-dir", str(self._outputs), POD, NODE, SETTINGS]
        shown = " \\\n    ".join(f"'{word}'" if " " in word else word for word in words[1:])
        say(f"as an account that may read a Pod and a Node: kubectl-sidecar run {shown}")
        self._process = Process([self._program, *words], self._log, env=self._environment)
        stack.callback(self._process.stop)

    def show_first(self) -> None:
        self._wait(
            lambda: all((self._outputs / name).exists() for name in OUTPUTS), "the files are not there"
        )
        self._wait(lambda: "settings.json: failed" in self._log.read_text(), "nothing is forbidden")
        self._show_log()
        for name in OUTPUTS:
            self._show(name)
        say("kubectl-sidecar status")
        print(self._run("status"), end="", flush=True)

    def show_watch(self) -> None:
        """Change the Pod, and tell how soon the file has followed."""
        delays = [self._change(f"change {number}") for number in range(1, CHANGES + 1)]
        self._show(OUTPUTS[0])
        text = ", ".join(f"{delay} ms" for delay in delays)
        self._seen.append(("@watch", f"from a request that changes the Pod to the changed file: {text}"))

    def show_missing_rule(self) -> None:
        rule = re.findall(r"settings\.json: failed.*\((missing rule: .*?)\);", self._log.read_text())[0]
        say(f"settings.json is forbidden, and the log has what to do: {rule}")
        self.allow(POD, NODE, SETTINGS)
        self._process.send(signal.SIGUSR1)  # refresh now
        self._wait((self._outputs / "settings.json").exists, "settings.json is still forbidden")
        self._show_log()
        self._show("settings.json")
        self._seen.append(("permissions", "the forbidden task named its missing rule, and `rbac` wrote it"))

    def show_outage(self, plane: ControlPlane) -> None:
        say("stopping the API server")
        before, started = self._state(), time.monotonic()
        plane.stop_api_server()
        self._wait(lambda: "this-node-status.json: failed" in self._log.read_text(), "no outage is seen")
        self._show_log()
        print(self._run("status"), end="", flush=True)
        stayed = "stayed as they were" if self._state() == before else "have CHANGED"
        say(f"the files {stayed}; starting the API server again")
        plane.start_api_server()
        away = time.monotonic() - started
        self._wait(lambda: "this-node-status.json: recovered" in self._log.read_text(), "no recovery is seen")
        self._change("a change after the outage", timed=False)
        self._show_log()
        self._show(OUTPUTS[0])
        text = f"the API server was away for {away:.0f} s; the files {stayed}, and follow again"
        self._seen.append(("an outage", text))

    def end(self) -> None:
        started = time.monotonic()
        status = self._process.stop()
        text = f"exit status {status}, {(time.monotonic() - started) * 1000:.0f} ms after SIGTERM"
        self._seen.append(("the end", text))
        self._show_log()
        say("what you have seen:")
        for what, text in self._seen:
            print(f"    {what:12} {text}", flush=True)
        say("how to do this in a cluster of yours: README.md")

    def _change(self, message: str, *, timed: bool = True) -> int:
        """Change the Pod's status, and return the milliseconds from that request to the new file."""
        patch = json.dumps({"status": {"phase": "Running", "message": message}})
        say(f"changing the Pod's status: {patch}")
        asked = self._cluster.patch_status("pod", self._name, patch)
        file = self._outputs / OUTPUTS[0]
        self._wait(lambda: message in file.read_text(), "the file does not follow")
        # The file system's clock ticks every few milliseconds.
        delay = max(0, round((file.stat().st_mtime - asked) * 1000))
        if timed:
            say(f"the file has followed, {delay} ms after the API server was asked")
        return delay

    def _wait(self, check: Callable[[], bool], what: str) -> None:
        def checked() -> bool:
            self._process.assert_running()
            return check()

        # A watch that was refused while the API server started may be back after one poll only.
        wait_until(checked, timeout=60, what=what, interval=0.01)

    def _run(self, *words: str) -> str:
        """What the program prints; `status` finds the one that runs by its TMPDIR."""
        done = subprocess.run(
            [self._program, *words], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"kubectl-sidecar {words[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def _state(self) -> list[tuple[bytes, int]]:
        files = [self._outputs / name for name in OUTPUTS]
        return [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]

    def _show(self, name: str) -> None:
        print(f"--- {name}\n{(self._outputs / name).read_text()}", end="", flush=True)

    def _show_log(self) -> None:
        lines = self._log.read_text().splitlines()
        for line in lines[self._shown :]:
            print(f"    {line}", file=sys.stderr, flush=True)
        self._shown = len(lines)


def show(context: str) -> None:
    """Set up, show, and take down again however it ends."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubectl-sidecar-demo-")))
        prefix = tools()
        plane = None if context else throwaway_cluster(stack, directory, prefix / "kubectl")
        which = ("--kubeconfig", str(plane.admin_kubeconfig)) if plane else ("--context", context)
        cluster = Cluster((str(prefix / "kubectl"), *which), own=plane is not None)
        name = f"kubectl-sidecar-demo-{uuid.uuid4().hex[:6]}"
        node = populate(stack, cluster, name)
        program = install(environment(pick("newest")), directory / "environment").with_name("kubectl-sidecar")
        kubeconfig = account_kubeconfig(cluster, name, directory)
        own = {"KUBECONFIG": str(kubeconfig), "MYPOD": name, "MYNODE": node}
        places = {"PATH": f"{prefix}:{os.environ['PATH']}", "HOME": str(directory), "TMPDIR": str(directory)}
        demo = Demo(program, cluster, directory, {**cluster.environment(), **places, **own})
        demo.allow(POD, NODE)
        demo.start(stack)
        demo.show_first()
        demo.show_watch()
        demo.show_missing_rule()
        if plane:
            demo.show_outage(plane)
        demo.end()
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
    parser.add_argument(
        "--context", default="", help="use this context of your kubeconfig, not a throwaway cluster"
    )
    chosen = parser.parse_args()
    signals.set_defaults()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        show(chosen.context)
    except KeyboardInterrupt:
        return 0
    except (Unavailable, WrongChecksum, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
