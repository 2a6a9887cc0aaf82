"""The installed kubectl-sidecar program, run as its users run it, with its logs and outputs at hand."""

from __future__ import annotations

import itertools
import os
import re
import signal
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.harness.access import ServiceAccount
from tests.harness.isolation import Isolation
from tests.harness.processes import Process, children, marked
from tests.harness.waiting import wait_until

EXIT_SECONDS = 15.0
# Set for each run to a value of its own: its descendants are known by it, wherever they hang.
MARK = "SIDECAR_TEST_MARK"


class EndedEarly(Exception):
    """The program ended before what was waited for came; there is no use in waiting on."""


class Sidecar:
    """One run of the program: its output directory, its log, its end."""

    def __init__(self, process: Process, pid_1: bool, output_directory: Path, mark: str) -> None:
        self.process = process
        self.output_directory = output_directory
        self._pid_1 = pid_1
        self._mark = mark

    @property
    def pid(self) -> int:
        """Of the program itself, as seen from here."""
        if not self._pid_1:
            return self.process.pid
        return wait_until(
            lambda: next(iter(children(self.process.pid)), 0), what="the PID namespace is empty"
        )

    def output(self, name: str) -> Path:
        return self.output_directory / name

    def wait_for_output(self, name: str, timeout: float = 10.0) -> bytes:
        """The content of an output once it is there."""
        path = self.output(name)

        self._wait_until(path.exists, f"no {name}", timeout)
        return path.read_bytes()

    def log(self) -> str:
        return self.process.log.read_text(errors="replace")

    def log_lines(self, pattern: str = "") -> list[str]:
        """The log's lines that match."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def wait_for_log(self, pattern: str, count: int = 1, timeout: float = 10.0) -> str:
        """The line that matches for the count-th time."""

        self._wait_until(lambda: len(self.log_lines(pattern)) >= count, f"no {pattern!r} in the log", timeout)
        return self.log_lines(pattern)[count - 1]

    def _wait_until(self, check: Callable[[], bool], failure: str, timeout: float) -> None:
        """Wait while the program runs; show its log if it is in vain."""

        def checked() -> None:
            ended = self.process.popen.poll() is not None
            if not check():
                text = f"{failure}:\n{self.log()}"
                if ended:
                    raise EndedEarly(text)
                raise AssertionError(text)

        wait_until(checked, timeout)

    def children(self) -> dict[int, str]:
        """Everything it started that lives, wherever it hangs by now: pid -> argv."""
        wrappers = {self.pid, self.process.pid}
        return {pid: argv for pid, argv in marked(self._mark).items() if pid not in wrappers}

    def zombies(self) -> list[int]:
        return [pid for pid, state in children(self.pid).items() if state == "Z"]

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = EXIT_SECONDS) -> int:
        """Its exit status; negative when a signal ended it, as in subprocess."""
        return self.process.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, return the exit status, and see to it that nothing is left behind."""
        self.send(number)
        status = self.wait()
        left = marked(self._mark)
        assert not left, f"left behind: {left}"
        return status

    def destroy(self) -> None:
        """End it and all that it started, whatever state it is in."""
        self.process.stop(signal.SIGKILL)
        for pid in marked(self._mark):
            os.kill(pid, signal.SIGKILL)


class Launcher:
    """Starts the program with an environment that holds nothing of this machine's."""

    def __init__(self, program: Path, tools: Path, directory: Path) -> None:
        self.program = program
        self.tools = tools
        self.directory = directory
        self.started: list[Sidecar] = []
        self._numbers = itertools.count(1)  # several threads may start one at once

    def __call__(
        self,
        *arguments: str | Path,
        command: str = "run",
        account: ServiceAccount | None = None,
        in_cluster: bool = False,
        env: Mapping[str, str] | None = None,
        isolation: Isolation | None = None,
        output_directory: Path | None = None,
    ) -> Sidecar:
        """Start `kubectl-sidecar COMMAND --output-dir DIR ARGUMENTS...` as that service account.

        The account comes as a kubeconfig or, in a cluster, as the mounted directory and the two variables
        that a Pod has.
        """
        number = next(self._numbers)
        output = output_directory or self.directory / f"outputs-{number}"
        output.mkdir(exist_ok=True)
        mark = str(uuid.uuid4())
        isolation = isolation or Isolation()
        if account and in_cluster:
            isolation = replace(isolation, service_account=account.mount_directory())
        words = [*isolation.prefix(), self.program, command, "--output-dir", output, *arguments]
        environment = {**self._environment(account, in_cluster), **(env or {}), MARK: mark}
        process = Process(words, self.directory / f"log-{number}", env=environment)
        started = Sidecar(process, isolation.pid_1, output, f"{MARK}={mark}")
        self.started.append(started)
        return started

    def _environment(self, account: ServiceAccount | None, in_cluster: bool) -> dict[str, str]:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        path = f"{self.tools}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        environment = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}
        if not account:
            return environment
        plane = account.control_plane
        if not in_cluster:
            return {**environment, "KUBECONFIG": str(account.kubeconfig)}
        service = {
            "KUBERNETES_SERVICE_HOST": plane.network.address,
            "KUBERNETES_SERVICE_PORT": str(plane.port),
        }
        return {**environment, **service}

    def destroy_all(self) -> None:
        for sidecar in self.started:
            sidecar.destroy()
