"""An object to watch: a ConfigMap that a test changes."""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.access import Namespace, ServiceAccount, rule


@dataclass
class ConfigMap:
    """One ConfigMap of a namespace; it exists once create() was called."""

    namespace: Namespace
    name: str = "web"

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace.name}/configmaps"

    def _body(self, data: dict[str, str]) -> dict[str, object]:
        return {"metadata": {"name": self.name, "labels": {"app": "web"}}, "data": data}

    def create(self, **data: str) -> None:
        self.namespace.control_plane.request("POST", self._path, self._body(data))

    def put(self, **data: str) -> None:
        """Replace its data."""
        self.namespace.control_plane.request("PUT", f"{self._path}/{self.name}", self._body(data))

    def delete(self) -> None:
        self.namespace.control_plane.request("DELETE", f"{self._path}/{self.name}")

    def watcher(self, verbs: str = "get list watch") -> ServiceAccount:
        """A new account that may watch it, and nothing else."""
        return self.namespace.service_account(rule(verbs, "configmaps", self.name))
