"""What the demo makes in a cluster, the user's own or a throwaway one, and takes out again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.harness.certificates import write_kubeconfig
from tests.harness.progress import Unavailable, say


@dataclass(frozen=True)
class Cluster:
    """A cluster as its administrator sees it."""

    command: tuple[str, ...]
    own: bool

    def environment(self) -> dict[str, str]:
        """The user's own, but for what would change what is shown here."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBECTL_SIDECAR_")}
        return {**kept, "KUBERC": "off", **({"NO_PROXY": "*"} if self.own else {})}

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self._run(*arguments, stdin=stdin).stdout

    def patch_status(self, kind: str, name: str, patch: str) -> float:
        """Patch an object in the namespace of its name; return when the API server was asked to."""
        target = [kind, name, "--namespace", name, "--subresource=status", "--type=merge", "--patch", patch]
        log = self._run("patch", *target, "-v=6").stderr
        found = re.search(r'I(\d{4} [\d:.]+) .*"Response" verb="PATCH".* milliseconds=(\d+)', log)
        if found is None:
            raise Unavailable(f"kubectl does not say when it was answered: {log}")
        year = datetime.now(UTC).astimezone().year
        answered = datetime.strptime(f"{year}{found[1]}", "%Y%m%d %H:%M:%S.%f").astimezone()
        return answered.timestamp() - int(found[2]) / 1000

    def _run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def create(self, *objects: dict[str, Any]) -> None:
        self.kubectl("create", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def populate(stack: contextlib.ExitStack, cluster: Cluster, name: str) -> str:
    """Make a namespace, an account without rights, a Pod and its settings; return the name of a Node."""
    stack.callback(remove, cluster, name)
    node = "demo-node" if cluster.own else first_node(cluster)
    say(f"creating the namespace {name}, with a Pod, a ConfigMap and a service account")
    inside = {"name": name, "namespace": name}
    # No scheduler feels responsible for it: it never runs, and its status is ours to change.
    spec = {"containers": [{"name": "app", "image": "example.invalid/app"}], "schedulerName": "nobody"}
    settings = {"name": "settings", "namespace": name}
    cluster.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": settings, "data": {"level": "debug"}},
    )
    pod_spec = {**spec, "serviceAccountName": name}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": inside, "spec": pod_spec})
    if cluster.own:
        create_node(cluster, node)
    return node


def first_node(cluster: Cluster) -> str:
    names = cluster.kubectl("get", "nodes", "-o", "name").split()
    if not names:
        raise Unavailable("the cluster has no node to show")
    return names[0].removeprefix("node/")


def create_node(cluster: Cluster, name: str) -> None:
    """A Node object that looks alive; there is no machine behind it."""
    cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    patch = json.dumps({"status": {"conditions": [ready]}})
    cluster.kubectl("patch", "node", name, "--subresource=status", "--patch", patch)


def remove(cluster: Cluster, name: str) -> None:
    """Take everything out of the user's own cluster; the throwaway one goes as a whole."""
    if cluster.own:
        return
    say(f"removing the namespace {name} and what belongs to it")
    cluster.kubectl("delete", "clusterrolebinding,clusterrole", f"{name}:{name}", "--ignore-not-found")
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=2m")


def account_kubeconfig(cluster: Cluster, name: str, directory: Path) -> Path:
    """A kubeconfig with the account's identity and nothing of the administrator's."""
    view = json.loads(cluster.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    token = directory / "token"
    token.touch(mode=0o600)
    token.write_text(cluster.kubectl("create", "token", name, "--namespace", name))
    user = {"tokenFile": str(token)}
    return write_kubeconfig(directory / "kubeconfig", view["clusters"][0]["cluster"], user, name)
