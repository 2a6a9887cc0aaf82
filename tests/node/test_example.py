"""The acceptance test: example.yaml, applied unchanged, on a real node."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until
from tests.node.conftest import Record
from tests.node.node import NAME, Node
from tests.node.pods import FILES, SIDECAR, Pod, memory, pod_of, read, wait_ready

EXAMPLE = "example.yaml"
APP = "demo-kubectl-sidecar"
# The files are watched: what takes so long is a busy machine.
FOLLOW_SECONDS = 10.0
LONGEST_BACKOFF = 60.0


@pytest.fixture(scope="module")
def example(plane: ControlPlane, restricted: None) -> Iterator[Pod]:  # noqa: ARG001
    """The Pod of example.yaml, ready."""
    plane.kubectl("apply", "-f", EXAMPLE)
    yield wait_ready(pod_of(plane, APP))
    plane.kubectl("delete", "-f", EXAMPLE, "--wait")
    wait_until(
        lambda: not plane.request("GET", "/api/v1/namespaces/default/pods")["items"], 60, "Pods are left"
    )


@contextlib.contextmanager
def port_forward(plane: ControlPlane, target: str, ports: str) -> Iterator[int]:
    """kubectl port-forward; the port on this machine."""
    command = ["kubectl", f"--kubeconfig={plane.admin_kubeconfig}", "port-forward", target, ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> 80\n", said)
            assert found, said + process.stdout.read()
            yield int(found[1])
        finally:
            process.terminate()


def fetch(port: int, file: str) -> Any:  # noqa: ANN401 - it is JSON
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/{file}")
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())


def without_heartbeats(status: dict[str, Any]) -> dict[str, Any]:
    """A node's status but for what its kubelet changes every few minutes."""
    return {key: value for key, value in status.items() if key not in ("conditions", "images")}


def node_status(plane: ControlPlane) -> dict[str, Any]:
    found: dict[str, Any] = plane.request("GET", f"/api/v1/nodes/{NAME}")["status"]
    return found


def change(plane: ControlPlane, pod: Pod, condition: str) -> None:
    """Give the Pod's status another condition."""
    patch = json.dumps({"status": {"conditions": [{"type": condition, "status": "True"}]}})
    plane.kubectl("patch", "pod", pod.name, "--subresource=status", "--type=strategic", "--patch", patch)


def test_port_forward_shows_the_true_status_of_pod_and_node(example: Pod, plane: ControlPlane) -> None:
    """Both have changed since the files were first made: it is a later refresh that is seen."""
    change(plane, example, "example.com/Changed")
    patch = json.dumps([{"op": "add", "path": "/status/capacity/example.com~1seats", "value": "42"}])
    plane.kubectl("patch", "node", NAME, "--subresource=status", "--type=json", "--patch", patch)
    with port_forward(plane, f"deployment/{APP}", "8080:80") as port:

        def current() -> None:
            pod, node = example.get()["status"], node_status(plane)
            assert "example.com/Changed" in {one["type"] for one in pod["conditions"]}
            assert node["capacity"]["example.com/seats"] == "42"
            assert fetch(port, "this-pod-status.json") == pod
            assert without_heartbeats(fetch(port, "this-node-status.json")) == without_heartbeats(node)

        wait_until(current, FOLLOW_SECONDS, "the files do not show the present status", interval=0.5)
        assert fetch(port, "this-pod-status.json")["phase"] == "Running"
        assert fetch(port, "this-node-status.json")["nodeInfo"]["kubeletVersion"].startswith("v1.")


def test_without_the_api_server_the_files_stay_as_they_are(
    example: Pod, plane: ControlPlane, cluster: Node
) -> None:
    address, main = example.address(), example.main_process()
    before = {file: example.read(file) for file in FILES}
    containers = set(cluster.ctr("tasks", "list").splitlines())
    log = cluster.log_of(example.name, SIDECAR)

    def all_have(text: str) -> bool:
        return all(f"{file}: {text}" in log.read_text() for file in FILES)

    plane.stop_api_server()
    try:
        os.kill(main, signal.SIGUSR1)
        wait_until(lambda: all_have("failed (2 times"), LONGEST_BACKOFF, "the outage was not noticed")
        assert {file: read(address, file) for file in FILES} == before
    finally:
        plane.start_api_server()
    assert set(cluster.ctr("tasks", "list").splitlines()) == containers, "a container has been restarted"
    wait_until(lambda: all_have("recovered"), LONGEST_BACKOFF, "no recovery after the outage")
    change(plane, example, "example.com/Outage")
    example.refresh_now()
    wait_until(lambda: b"example.com/Outage" in example.read("this-pod-status.json"))
    assert example.restarts(SIDECAR) == example.restarts("web") == 0


def test_it_fits_its_memory_limit_with_margin(example: Pod, record: Record) -> None:
    main = example.main_process()
    kept = 0
    with ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            # This is the most that happens at once: all lines are run, all watches begun anew, and a probe,
            # which is a Python of its own.
            example.refresh_now()
            probe = pool.submit(example.execute, "kubectl-sidecar", "health", "--startup")
            while not probe.done():
                kept = max(kept, memory(main)[1])
            probe.result()
    limits = example.get()["spec"]["initContainers"][0]["resources"]["limits"]
    limit = int(limits["memory"].removesuffix("Mi")) << 20
    record["sidecar memory peak, page cache included"] = f"{memory(main)[0] / 2**20:.1f} MiB"
    record["sidecar memory that cannot be dropped, most seen"] = f"{kept / 2**20:.1f} MiB"
    assert kept < limit * 0.75
    assert example.restarts(SIDECAR) == 0
    assert example.container(SIDECAR).get("lastState") == {}


def test_the_web_server_cannot_use_the_sidecars_permissions(example: Pod) -> None:
    mounts = {one["name"]: one.get("volumeMounts", []) for one in example.get()["spec"]["containers"]}
    assert [mount["name"] for mount in mounts["web"]] == ["data", "nginx", "nginx"]


def test_a_deleted_pod_ends_at_once_and_orderly(
    example: Pod, plane: ControlPlane, cluster: Node, record: Record
) -> None:
    finalizer = json.dumps({"metadata": {"finalizers": ["example.com/look-at-it-first"]}})
    plane.kubectl("patch", "pod", example.name, "--patch", finalizer)
    identity = example.container(SIDECAR)["containerID"].rpartition("/")[2]
    with cluster.events() as events:
        plane.kubectl("delete", "pod", example.name, "--wait=false")
        try:
            # A kubelet that has just been without its API server may take this long to hear of it.
            wait_until(lambda: "terminated" in example.container(SIDECAR)["state"], 120, "it does not end")
            ended = example.container(SIDECAR)["state"]["terminated"]
            seconds = events.exit_time(identity) - cluster.kill_time(identity)
        finally:
            plane.kubectl(
                "patch", "pod", example.name, "--patch", json.dumps({"metadata": {"finalizers": None}})
            )
    record["SIGTERM to the end of the sidecar"] = f"{seconds * 1000:.0f} ms"
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert 0 < seconds < 1
