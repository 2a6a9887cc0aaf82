"""What goes wrong in a sidecar's container stays there: a child that hangs or eats the memory, a crash."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.publish.volume import staged_name
from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until
from tests.node.images import names
from tests.node.pods import SIDECAR, Pod, stopped, wait_ready

LABELS = '@every 500ms @timeout 3s kubectl get pod "$MYPOD" -o json | jq .metadata.labels > labels.json'
HOG = "@every 500ms sh -c '[ ! -e /data/eat ] || exec jq -n \"[range(1e8)]\"; echo fine' > hog.txt"


def manifest() -> dict[str, Any]:
    sidecar, web = names()
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    containers: dict[str, dict[str, Any]] = {
        SIDECAR: {
            "image": sidecar,
            "restartPolicy": "Always",
            "args": ["kubectl-sidecar", "run", "--output-dir=/data", LABELS, HOG],
            "env": [{"name": "MYPOD", "valueFrom": field}],
            "resources": {"limits": {"memory": "64Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        },
        "web": {"image": web, "volumeMounts": [{"name": "data", "mountPath": "/usr/share/nginx/html"}]},
    }
    first, second = ({"name": name, **container} for name, container in containers.items())
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "faults", "labels": {"app": "faults", "round": "0"}},
        "spec": {
            "serviceAccountName": "faults",
            "terminationGracePeriodSeconds": 5,
            "initContainers": [first],
            "containers": [second],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }


@pytest.fixture(scope="module")
def pod(plane: ControlPlane, cluster: object) -> Iterator[Pod]:  # noqa: ARG001 - it has nodes
    plane.kubectl("create", "serviceaccount", "faults")
    plane.kubectl("create", "role", "faults", "--verb=get", "--resource=pods", "--resource-name=faults")
    plane.kubectl("create", "rolebinding", "faults", "--role=faults", "--serviceaccount=default:faults")
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest()))
    yield wait_ready(Pod(plane, "faults"))
    plane.kubectl(
        "delete", "pod/faults", "rolebinding/faults", "role/faults", "serviceaccount/faults", "--wait"
    )


def refreshed(pod: Pod, timeout: float = 90.0) -> None:
    """Wait until a change made now shows in the output."""
    number = str(int(pod.get()["metadata"]["labels"]["round"]) + 1)
    pod.plane.kubectl("label", "pod", pod.name, f"round={number}", "--overwrite")
    wait_until(lambda: pod.document("labels.json")["round"] == number, timeout, "no refresh", interval=0.2)


def test_a_child_that_hangs_is_replaced(pod: Pod) -> None:
    refreshed(pod)
    before = pod.read("labels.json")
    with stopped(child := pod.child("kubectl")):
        wait_until(lambda: not Path(f"/proc/{child}").exists(), 30, "the stopped child is still there")
    assert pod.read("labels.json") == before
    refreshed(pod)
    assert pod.restarts(SIDECAR) == 0


def test_a_child_that_eats_the_memory_dies_alone(pod: Pod) -> None:
    """With control groups v2 a kubelet has the whole container killed and started again; the app goes on."""
    assert pod.read("hog.txt") == b"fine\n"
    pod.execute("touch", "/data/eat")
    wait_until(
        lambda: "hog.txt" in pod.logs(SIDECAR, "--tail=3") or pod.restarts(SIDECAR),
        60,
        "no failure",
        interval=0.2,
    )
    assert pod.read("hog.txt") == b"fine\n"
    refreshed(pod)
    pod.execute("rm", "/data/eat")
    refreshed(pod)
    if Path("/sys/fs/cgroup/memory").exists():
        assert pod.restarts(SIDECAR) == 0
    assert pod.restarts("web") == 0


def test_a_restarted_container_sweeps_and_goes_on(pod: Pod) -> None:
    restarts = pod.restarts(SIDECAR)
    pod.execute("touch", f"/data/{staged_name()}", "/data/.the-apps-own")
    kept = pod.read("hog.txt")
    os.kill(pod.main_process(), signal.SIGKILL)
    wait_until(lambda: pod.restarts(SIDECAR) == restarts + 1 and running(pod), 60, "no restart", interval=0.2)
    assert pod.read("hog.txt") == kept
    refreshed(pod)
    assert set(pod.execute("ls", "-A", "/data").split()) == {"hog.txt", "labels.json", ".the-apps-own"}
    assert pod.restarts("web") == 0


def running(pod: Pod) -> bool:
    return "running" in pod.container(SIDECAR)["state"]
