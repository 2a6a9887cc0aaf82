"""The other manifests in examples/, and the bash loop that people already have."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until
from tests.node.conftest import ENFORCE
from tests.node.node import NAME
from tests.node.pods import FILES, SIDECAR, START_SECONDS, pod_of, wait_ready


@pytest.fixture
def loop(plane: ControlPlane, restricted: None) -> Iterator[None]:  # noqa: ARG001 - given back afterwards
    """A loop of this shape runs as root or as anybody: no restricted namespace would have it."""
    plane.kubectl("label", "namespace", "default", f"{ENFORCE}=baseline", "--overwrite")
    plane.kubectl("apply", "-f", "example.yaml", "-f", "examples/bash-loop.yaml")
    plane.kubectl("delete", "deployment", "demo-kubectl-sidecar")
    yield
    plane.kubectl("delete", "-f", "examples/bash-loop.yaml", "--wait")
    plane.kubectl("delete", "-f", "example.yaml", "--ignore-not-found")
    plane.kubectl("label", "namespace", "default", f"{ENFORCE}=restricted", "--overwrite")


def test_a_bash_loop_runs_unchanged(loop: None, plane: ControlPlane) -> None:  # noqa: ARG001
    pod = wait_ready(pod_of(plane, "demo-bash-loop"))

    def current() -> None:
        for file in FILES:
            assert pod.read(file), f"{file} is empty"
        assert pod.document("this-pod-status.json")["podIP"] == pod.address()
        assert pod.document("this-node-status.json")["addresses"][1]["address"] == NAME

    wait_until(current, START_SECONDS, interval=0.2)
    assert pod.restarts(SIDECAR) == 0


def test_a_task_file_comes_from_a_config_map(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    manifest = "examples/task-file.yaml"
    plane.kubectl("apply", "-f", manifest)
    try:
        plane.kubectl("rollout", "status", "deployment/demo-task-file", f"--timeout={START_SECONDS:.0f}s")
        plane.kubectl("annotate", "deployment", "demo-task-file", "example.com/level=debug")
        pod = pod_of(plane, "demo-task-file")
        pod.refresh_now()

        def current() -> None:
            assert json.loads(pod.execute("cat", "/data/level.json", container="app")) == "debug"
            peers = json.loads(pod.execute("cat", "/data/peers.json", container="app"))
            assert len(set(peers)) == 2
            assert pod.address() in peers

        wait_until(current, START_SECONDS, interval=0.5)
    finally:
        plane.kubectl("delete", "-f", manifest, "--wait")


def test_an_init_container_makes_its_files_once(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    manifest = "examples/once.yaml"
    plane.kubectl("apply", "-f", manifest)
    try:
        plane.kubectl("wait", "job/demo-once", "--for=condition=Complete", f"--timeout={START_SECONDS:.0f}s")
        assert plane.kubectl("logs", "job/demo-once") == f"{NAME}\n"
    finally:
        plane.kubectl("delete", "-f", manifest, "--wait")
