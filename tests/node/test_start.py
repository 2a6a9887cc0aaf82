"""How Pods start: nothing before its files exist, and soon."""

from __future__ import annotations

import time

from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until
from tests.node.conftest import Record
from tests.node.pods import FILES, SIDECAR, START_SECONDS, pod_of, wait_ready

EXAMPLE = "example.yaml"
APP = "demo-kubectl-sidecar"


def test_nothing_starts_before_both_files_exist(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    """Without the permission to read nodes one of the two files cannot be made."""
    plane.kubectl("apply", "-f", EXAMPLE)
    plane.kubectl("delete", "clusterrolebinding", APP)
    plane.kubectl("delete", "pod", "--selector", f"app={APP}", "--wait")
    try:
        pod = pod_of(plane, APP)
        wait_until(
            lambda: "nodes" in pod.logs(),
            START_SECONDS,
            "the missing permission is not reported",
            interval=0.2,
        )
        assert pod.execute("ls", "/data") == "this-pod-status.json\n"
        assert pod.container("web")["state"] == {"waiting": {"reason": "PodInitializing"}}
        plane.kubectl("apply", "-f", EXAMPLE)
        wait_ready(pod)
        assert sorted(pod.execute("ls", "/data").split()) == sorted(FILES)
        assert pod.restarts(SIDECAR) == pod.restarts("web") == 0
    finally:
        plane.kubectl("delete", "-f", EXAMPLE, "--wait", "--ignore-not-found")


def test_the_files_are_there_seconds_after_the_pod(
    plane: ControlPlane,
    restricted: None,  # noqa: ARG001 - the namespace is
    record: Record,
) -> None:
    started = time.monotonic()
    plane.kubectl("apply", "-f", EXAMPLE)
    try:
        pod = pod_of(plane, APP)
        wait_until(lambda: all(pod.read(file) for file in FILES), START_SECONDS, interval=0.05)
        record["kubectl apply to both files served"] = f"{time.monotonic() - started:.1f} s"
    finally:
        plane.kubectl("delete", "-f", EXAMPLE, "--wait", "--ignore-not-found")
