"""The kustomize component: what it adds to a workload, and that it changes nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPONENT, EXAMPLE = Path("deploy/component"), Path("examples/component")
WORKLOADS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1"}
TASKS = "kubectl get pod $MYPOD -o json | jq .status > status.json\n"

Json = dict[str, Any]


def pod_spec() -> Json:
    mount = {"name": "kubectl-sidecar", "mountPath": "/here"}
    return {
        "serviceAccountName": "web",
        "initContainers": [container("migrate")],
        "containers": [container("app", volumeMounts=[mount]), container("log")],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    }


def container(name: str, **more: object) -> Json:
    """One that a `restricted` namespace takes, so that only what is added could be refused."""
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    security = {**rights, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"name": name, "image": "web", "securityContext": security, **more}


def workload(kind: str) -> Json:
    labels, pod = {"app": "web"}, pod_spec()
    spec = {"template": {"metadata": {"labels": labels}, "spec": pod}}
    if kind == "Job":
        pod["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": labels}
    return thing(kind, spec)


def thing(kind: str, spec: Json) -> Json:
    return {"apiVersion": WORKLOADS.get(kind, "v1"), "kind": kind, "metadata": {"name": "web"}, "spec": spec}


def kustomized(directory: Path) -> dict[str, Json]:
    """What `kubectl kustomize` makes, by kind."""
    environ = {"PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null"}
    command = ["kubectl", "kustomize", str(directory)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}


def kustomization(directory: Path, *resources: Json) -> Path:
    """One that has these resources, and the lines that the component asks for."""
    (directory / "tasks").write_text(TASKS)
    (directory / "resources.yaml").write_text("\n---\n".join(map(json.dumps, resources)))
    content = {
        "resources": ["resources.yaml"],
        "components": [os.path.relpath(COMPONENT, directory)],
        "configMapGenerator": [{"name": "kubectl-sidecar", "files": ["tasks"]}],
    }
    (directory / "kustomization.yaml").write_text(json.dumps(content))
    return directory


@pytest.mark.slow
def test_the_sidecar_comes_first_and_all_else_stays(tmp_path: Path) -> None:
    workloads = [workload(kind) for kind in WORKLOADS]
    others = [thing("Pod", pod_spec()), thing("Service", {"selector": {"app": "web"}})]
    made = kustomized(kustomization(tmp_path, *workloads, *others))
    tasks = made.pop("ConfigMap")
    name = tasks["metadata"]["name"]
    assert tasks["data"] == {"tasks": TASKS}
    # It follows the content, so that other tasks make other Pods.
    assert re.fullmatch(r"kubectl-sidecar-\w{10}", name)
    patch = (COMPONENT / "sidecar.yaml").read_text().replace("{name: kubectl-sidecar}", f"{{name: {name}}}")
    added = yaml.safe_load(patch)
    for pod in (it["spec"]["template"]["spec"] for it in workloads):
        for key, elements in added["spec"]["template"]["spec"].items():
            pod[key] = [*elements, *pod[key]]
    assert made == {it["kind"]: it for it in (*workloads, *others)}


@pytest.mark.slow
def test_the_example_is_whole() -> None:
    """Its Role is what `rbac` prints: tests/integration/test_rbac.py sees to that."""
    made = kustomized(EXAMPLE)
    assert made.keys() == {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Deployment"}
    assert made["Deployment"]["spec"]["template"]["spec"]["initContainers"][0]["restartPolicy"] == "Always"
