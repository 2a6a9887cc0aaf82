"""The other manifests in examples/, and the bash loop that people already have."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until
from tests.node.conftest import ENFORCE, Record
from tests.node.node import NAME
from tests.node.pods import FILES, SIDECAR, START_SECONDS, Pod, memory, pod_of, wait_ready

ZONE_LABEL = "topology.kubernetes.io/zone"


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


def test_the_component_gives_a_deployment_its_files(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    plane.kubectl("apply", "-k", "examples/component")
    try:
        timeout = f"--timeout={START_SECONDS:.0f}s"
        plane.kubectl("rollout", "status", "deployment/demo-component", timeout)
        pod = pod_of(plane, "demo-component")

        def current() -> None:
            peers = json.loads(pod.execute("cat", "/run/peers/peers.json", container="app"))
            assert len(set(peers)) == 2
            assert pod.address() in peers

        wait_until(current, START_SECONDS, interval=0.5)
    finally:
        plane.kubectl("delete", "-k", "examples/component", "--wait")


def test_a_job_with_the_component_ends(
    plane: ControlPlane,
    restricted: None,  # noqa: ARG001 - the namespace is
    tmp_path: Path,
) -> None:
    """Its container finds what was made with the token that the component mounts; no sidecar outlives it."""
    *_, job = yaml.safe_load_all(Path("examples/once.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (app,) = pod["containers"]
    app |= {"command": ["cat", "/data/me"], "volumeMounts": [{"name": SIDECAR, "mountPath": "/data"}]}
    bare = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [app]}
    job["spec"]["template"]["spec"] = {**bare, "securityContext": pod["securityContext"]}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    (tmp_path / "tasks").write_text("kubectl auth whoami -o json | jq -r .status.userInfo.username > me")
    kustomization = {
        "namespace": "default",
        "resources": ["job.yaml"],
        "components": [os.path.relpath("deploy/component", tmp_path)],
        "configMapGenerator": [{"name": SIDECAR, "files": ["tasks"]}],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    plane.kubectl("apply", "-k", str(tmp_path))
    try:
        plane.kubectl("wait", "job/demo-once", "--for=condition=Complete", f"--timeout={START_SECONDS:.0f}s")
        assert plane.kubectl("logs", "job/demo-once") == "system:serviceaccount:default:default\n"
    finally:
        plane.kubectl("delete", "-k", str(tmp_path), "--wait")


def test_the_dashboards_of_config_maps_come_and_go_as_files(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    manifest = "examples/dashboards.yaml"
    plane.kubectl("apply", "-f", manifest)
    try:
        plane.kubectl("rollout", "status", "deployment/demo-dashboards", f"--timeout={START_SECONDS:.0f}s")
        pod = pod_of(plane, "demo-dashboards")

        def shows(*files: str) -> None:
            def current() -> None:
                assert pod.execute("ls", "/data/dashboards", container="grafana").split() == [*files]

            wait_until(current, START_SECONDS, interval=0.5)

        shows("node.json", "pod.json")
        title = pod.execute("jq", "-r", ".title", "/data/dashboards/node.json", container="grafana")
        assert title == "Nodes\n"
        plane.kubectl("create", "configmap", "more", "--from-literal=more.json={}")
        plane.kubectl("label", "configmap", "more", "grafana_dashboard=1")
        shows("more.json", "node.json", "pod.json")
        plane.kubectl("delete", "configmap", "more")
        shows("node.json", "pod.json")
        assert pod.restarts(SIDECAR) == 0
    finally:
        plane.kubectl("delete", "-f", manifest, "--wait")
        plane.kubectl("delete", "configmap", "more", "--ignore-not-found")


def test_an_init_container_makes_its_files_once(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    manifest = "examples/once.yaml"
    plane.kubectl("apply", "-f", manifest)
    try:
        plane.kubectl("wait", "job/demo-once", "--for=condition=Complete", f"--timeout={START_SECONDS:.0f}s")
        assert plane.kubectl("logs", "job/demo-once") == f"{NAME}\n"
    finally:
        plane.kubectl("delete", "-f", manifest, "--wait")


@pytest.fixture(scope="module")
def env(plane: ControlPlane, restricted: None) -> Iterator[str]:  # noqa: ARG001
    """The app of env.yaml, on a Node in a zone."""
    plane.kubectl("label", "node", NAME, f"{ZONE_LABEL}=here-1")
    plane.kubectl("apply", "-f", "examples/env.yaml")
    yield "demo-env"
    plane.kubectl("delete", "-f", "examples/env.yaml", "--wait")
    plane.kubectl("label", "node", NAME, f"{ZONE_LABEL}-")


def variables(pod: Pod) -> dict[str, str]:
    """The environment of the app's first process."""
    entries = pod.execute("cat", "/proc/1/environ", container="app").split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def annotated(plane: ControlPlane, app: str, **annotations: str) -> Pod:
    """The app's Pod, made anew with these annotations: team, on_call."""
    *_, deployment = yaml.safe_load_all(Path("examples/env.yaml").read_text())
    named = {f"example.com/{name.replace('_', '-')}": value for name, value in annotations.items()}
    deployment["spec"]["template"]["metadata"]["annotations"] |= named
    plane.kubectl("delete", "deployment", app, "--cascade=foreground", "--wait")
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
    return pod_of(plane, app)


def test_labels_of_the_node_and_annotations_of_the_pod_are_variables(env: str, plane: ControlPlane) -> None:
    seen = variables(wait_ready(pod_of(plane, env)))
    assert (seen["ZONE"], seen["TEAM"]) == ("here-1", "payments")
    assert json.loads(seen["ANNOTATIONS"]) == {
        "example.com/team": "payments",
        "example.com/on-call": 'Ada\'s pager, then\n"the office"\n',
    }


def test_what_the_kubelet_makes_of_a_value_is_the_value(env: str, plane: ControlPlane) -> None:
    team = ' $HOME `id` #1\n\n\tEVIL="x"=\\n\\\n# no comment\nZONE=there\n\u00fc\u2603\n'
    odd = "it's '\r\n'\\u0027' \" \\ \u2028 \x1b"
    seen = variables(wait_ready(annotated(plane, env, team=team, on_call=odd)))
    assert (seen["TEAM"], seen["ZONE"]) == (team, "here-1")
    assert json.loads(seen["ANNOTATIONS"])["example.com/on-call"] == odd


def test_a_value_that_cannot_be_written_starts_nothing_and_is_named(env: str, plane: ControlPlane) -> None:
    pod = annotated(plane, env, team="x'\nZONE='elsewhere")
    wait_until(lambda: "app.env: failed" in pod.logs(), START_SECONDS, "no failure", interval=0.2)
    assert re.search(
        r"jq exited with 5: jq: error \(at <stdin>:\d+\): TEAM holds a single quote;", pod.logs()
    )
    assert pod.container("app")["state"] == {"waiting": {"reason": "PodInitializing"}}


def redirect(address: str, path: str) -> str:
    """Where a web server sends those who ask for a path."""
    connection = http.client.HTTPConnection(address, 8080, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().headers["Location"]


def test_nginx_is_told_when_its_configuration_has_changed(
    plane: ControlPlane,
    restricted: None,  # noqa: ARG001 - given back afterwards
    record: Record,
) -> None:
    manifest = "examples/on-change.yaml"
    plane.kubectl("apply", "-f", manifest)
    try:
        pod = wait_ready(pod_of(plane, "demo-on-change"))
        assert redirect(pod.address(), "/docs") == "https://example.com/docs"
        # It may have been told in vain while nginx was not there yet.
        wait_until(
            lambda: "on-change: first success" in pod.logs() or "on-change: recovered" in pod.logs(), 30
        )
        patch = json.dumps({"data": {"docs": "https://example.com/new"}})
        plane.kubectl("patch", "configmap", "demo-on-change", "--patch", patch)
        began = time.monotonic()
        wait_until(lambda: redirect(pod.address(), "/docs") == "https://example.com/new", 30)
        record["from a changed ConfigMap to a changed answer of nginx"] = f"{time.monotonic() - began:.2f} s"
        # It is not PID 1 where the processes of all containers are in one namespace.
        sidecar = next(pid for pid, argv in pod.processes().items() if "kubectl-sidecar run " in argv)
        record["most memory of the sidecar of on-change.yaml"] = f"{memory(sidecar)[0] / 2**20:.1f} MiB"
        assert (pod.restarts(SIDECAR), pod.restarts("web")) == (0, 0)
    finally:
        plane.kubectl("delete", "-f", manifest, "--wait")
