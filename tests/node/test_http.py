"""The probes of examples/metrics.yaml, asked by a real kubelet, and what Prometheus would get."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until
from tests.node.pods import FILES, SIDECAR, START_SECONDS, pod_of, wait_ready

EXAMPLE = Path("example.yaml")
APP = "demo-kubectl-sidecar"
KINDS = ("startupProbe", "livenessProbe", "readinessProbe")


def probes() -> dict[str, Any]:
    """What the comment of the example says to put into the container."""
    lines = re.findall(r"^#     (.*)$", Path("examples/metrics.yaml").read_text(), re.MULTILINE)
    found: dict[str, Any] = yaml.safe_load("\n".join(lines))
    assert set(found) == {"ports", *KINDS}
    return found


def manifests() -> list[Any]:
    """The example, with --http and these probes."""
    found = list(yaml.safe_load_all(EXAMPLE.read_text()))
    container = found[-1]["spec"]["template"]["spec"]["initContainers"][0]
    container["args"].append("--http=:8080")
    container |= probes()
    return found


def test_the_kubelet_asks_over_http(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    listed = {"apiVersion": "v1", "kind": "List", "items": manifests()}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
    try:
        pod = wait_ready(pod_of(plane, APP))
        found = next(one for one in pod.get()["spec"]["initContainers"] if one["name"] == SIDECAR)
        assert all("httpGet" in found[kind] and "exec" not in found[kind] for kind in KINDS)

        def metrics() -> None:
            with contextlib.closing(
                http.client.HTTPConnection(pod.address(), 8080, timeout=10)
            ) as connection:
                connection.request("GET", "/metrics")
                text = connection.getresponse().read().decode()
            samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
            watched = {
                one.labels["task"]: one.value for one in samples if one.name.endswith("_watch_connected")
            }
            assert watched == dict.fromkeys(FILES, 1.0)

        wait_until(metrics, START_SECONDS)
        assert pod.restarts(SIDECAR) == pod.restarts("web") == 0
    finally:
        plane.kubectl("delete", "-f", str(EXAMPLE), "--wait", "--ignore-not-found")
