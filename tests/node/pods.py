"""What the tests see of Pods: through the API, over their network, and on the machine itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until

SIDECAR = "kubectl-sidecar"
FILES = ("this-pod-status.json", "this-node-status.json")
START_SECONDS = 120.0


class Pod:
    """One Pod, by its name."""

    def __init__(self, plane: ControlPlane, name: str, namespace: str = "default") -> None:
        self.plane = plane
        self.name = name
        self.path = f"/api/v1/namespaces/{namespace}/pods/{name}"

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.request("GET", self.path)
        return found

    def container(self, name: str) -> dict[str, Any]:
        """The status of a container, of whichever kind."""
        status = self.get()["status"]
        found = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next((one for one in found if one["name"] == name), {})

    def is_ready(self) -> bool:
        conditions = self.get()["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def restarts(self, container: str) -> int:
        return int(self.container(container)["restartCount"])

    def read(self, file: str) -> bytes:
        """What the Pod's web server says a file is."""
        return read(self.address(), file)

    def address(self) -> str:
        address = self.get()["status"].get("podIP")
        assert address, f"{self.name} has no address"
        return str(address)

    def document(self, file: str) -> Any:  # noqa: ANN401 - it is JSON
        return json.loads(self.read(file))

    def logs(self, container: str = SIDECAR, *options: str) -> str:
        return self.plane.kubectl("logs", self.name, f"--container={container}", *options)

    def execute(self, *argv: str, container: str = SIDECAR) -> str:
        return self.plane.kubectl("exec", self.name, f"--container={container}", "--", *argv)

    def processes(self, container: str = SIDECAR) -> dict[int, str]:
        """The processes of a container, as the machine sees them: pid -> argv."""
        identity = self.container(container)["containerID"].rpartition("/")[2]
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and identity in (entry / "cgroup").read_text():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(
                        b"\0", b" "
                    ).decode() or "(zombie)"
        return found

    def main_process(self) -> int:
        """The PID of the sidecar itself: its container's first process."""
        return next(pid for pid in self.processes() if innermost_pid(pid) == 1)

    def refresh_now(self) -> None:
        """Have the sidecar run all its tasks."""
        os.kill(self.main_process(), signal.SIGUSR1)

    def child(self, program: str, timeout: float = 30.0) -> int:
        """The PID of a program that the sidecar has started, once there is one."""

        def running() -> int:
            return next(
                (pid for pid, argv in self.processes().items() if argv.split()[0].endswith(f"/{program}")), 0
            )

        return wait_until(running, timeout, f"no {program} runs in {self.name}")


def read(address: str, file: str) -> bytes:
    """A file of a web server, as another Pod would ask for it."""
    connection = http.client.HTTPConnection(address, 80, timeout=10)
    try:
        with contextlib.closing(connection):
            connection.request("GET", f"/{file}")
            answer = connection.getresponse()
            content = answer.read()
    except OSError as error:
        raise AssertionError(f"{file}: {error}") from error
    assert answer.status == 200, f"{file}: {answer.status}"
    return content


def innermost_pid(pid: int) -> int:
    found = re.search(r"^NSpid:.*?(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def pod_of(plane: ControlPlane, app: str) -> Pod:
    """The one Pod of an app, once it is there."""

    def found() -> list[Any]:
        path = f"/api/v1/namespaces/default/pods?labelSelector=app%3D{app}"
        items: list[Any] = plane.request("GET", path)["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    return Pod(plane, wait_until(found, START_SECONDS, f"no Pod of {app}")[0]["metadata"]["name"])


def wait_ready(pod: Pod) -> Pod:
    try:
        wait_until(pod.is_ready, START_SECONDS, f"{pod.name} is not ready", interval=0.1)
    except AssertionError as error:
        described = pod.plane.kubectl("describe", f"pod/{pod.name}")
        raise AssertionError(f"{error}\n{described}\n{pod.logs()}") from error
    return pod


def memory(pid: int) -> tuple[int, int]:
    """The most memory that a process's control group ever held, and what the kernel cannot drop of it now."""
    version_1, version_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    if version_1.exists():
        path = next(line.split(":", 2)[2] for line in lines if ":memory:" in line)
        directory, peak, kept = (
            version_1 / path.lstrip("/"),
            "memory.max_usage_in_bytes",
            ("total_rss", "total_shmem"),
        )
    else:
        path = next(line.split(":", 2)[2] for line in lines if line.startswith("0::"))
        directory, peak, kept = version_2 / path.lstrip("/"), "memory.peak", ("anon", "shmem")
    counted = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
    return int((directory / peak).read_text()), sum(int(counted.get(name, 0)) for name in kept)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs, as far as anybody can tell; it may be dead afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
