"""A namespace of a test's own, and service accounts with exactly the rights it gives them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.certificates import write_kubeconfig
from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until

Rule = Mapping[str, Sequence[str]]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def rule(verbs: str, resources: str, *names: str, groups: str = "") -> Rule:
    """A PolicyRule: rule("get", "pods", "web"), rule("get list watch", "nodes")."""
    allowed = {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": groups.split() or [""]}
    return {**allowed, "resourceNames": names} if names else allowed


@dataclass(frozen=True)
class ServiceAccount:
    """One identity: its name in the audit log, a file with its token, a kubeconfig that reads that file."""

    control_plane: ControlPlane
    namespace: str
    name: str
    directory: Path

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def new_token(self, seconds: int = 3600) -> str:
        """A fresh token; the API server gives none for less than ten minutes."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.name}/token"
        answer = self.control_plane.request("POST", path, {"spec": {"expirationSeconds": seconds}})
        return str(answer["status"]["token"])

    def rotate_token(self) -> None:
        """As the kubelet does it: a new file in the old one's place."""
        fresh = self.token_file.with_name("token.new")
        fresh.write_text(self.new_token())
        fresh.rename(self.token_file)

    def mount_directory(self) -> Path:
        """What a Pod finds under /var/run/secrets/kubernetes.io/serviceaccount."""
        (self.directory / "namespace").write_text(self.namespace)
        (self.directory / "ca.crt").write_bytes(self.control_plane.authority.certificate.read_bytes())
        return self.directory


class Namespace:
    """A namespace of the control plane. Nothing cleans it up: the whole cluster is thrown away."""

    _numbers = itertools.count(1)

    def __init__(self, control_plane: ControlPlane, directory: Path, name: str = "") -> None:
        self.control_plane = control_plane
        self.directory = directory
        self.name = name or f"test-{next(self._numbers)}"
        self._path = f"/api/v1/namespaces/{self.name}"
        control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        # Pods need it, and there is no controller manager that would make it.
        control_plane.request("POST", f"{self._path}/serviceaccounts", {"metadata": {"name": "default"}})

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """As the administrator, in this namespace."""
        return self.control_plane.kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def create_pod(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """A Pod object; without a kubelet it never runs."""
        container = {"name": "app", "image": "example.invalid/app"}
        pod = {"metadata": {"name": name, "labels": dict(labels or {})}, "spec": {"containers": [container]}}
        self.control_plane.request("POST", f"{self._path}/pods", pod)

    def patch_pod_status(self, name: str, patch: str) -> None:
        """Change the status as a kubelet would: patch_pod_status("web", '{"phase": "Running"}')."""
        merge = f'{{"status": {patch}}}'
        self.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", merge)

    def service_account(
        self, *rules: Rule, cluster_rules: Iterable[Rule] = (), name: str = "sidecar"
    ) -> ServiceAccount:
        """A new account that may do what the rules say, once the API server knows it."""
        metadata = {"metadata": {"name": name}}
        self.control_plane.request("POST", f"{self._path}/serviceaccounts", metadata)
        directory = self.directory / f"service-account-{name}"
        directory.mkdir()
        account = ServiceAccount(self.control_plane, self.name, name, directory)
        self._grant(account, "Role", name, rules)
        self._grant(account, "ClusterRole", f"{self.name}-{name}", tuple(cluster_rules))
        account.rotate_token()
        user = {"tokenFile": str(account.token_file)}
        write_kubeconfig(account.kubeconfig, self.control_plane.cluster, user, self.name)
        return account

    def _grant(self, account: ServiceAccount, kind: str, name: str, rules: Sequence[Rule]) -> None:
        """Bind the account to a new Role or ClusterRole."""
        namespace = self.name if kind == "Role" else ""
        path = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        metadata = {"name": name}
        subject = {"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}
        role = {"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        binding = {"metadata": metadata, "subjects": [subject], "roleRef": role}
        request = self.control_plane.request
        request("POST", f"{path}/{kind.lower()}s", {"metadata": metadata, "rules": rules})
        request("POST", f"{path}/{kind.lower()}bindings", binding)
        for one in rules:
            allowed = functools.partial(self._allowed, account, one, namespace)
            wait_until(allowed, what=f"{one} is not in force")

    def _allowed(self, account: ServiceAccount, rule: Rule, namespace: str) -> bool:
        """Whether the API server's authorizer, which follows changes a moment behind, knows a rule."""
        attributes = {
            "namespace": namespace,
            "verb": rule["verbs"][0],
            "group": rule["apiGroups"][0],
            "resource": rule["resources"][0].split("/")[0],
            "subresource": "".join(rule["resources"][0].split("/")[1:]),
            "name": next(iter(rule.get("resourceNames", ())), ""),
        }
        review = {"spec": {"user": account.user, "resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.control_plane.request("POST", path, review)["status"]["allowed"])
