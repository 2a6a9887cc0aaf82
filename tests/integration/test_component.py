"""What the kustomize component makes of workloads, as a real API server sees it."""

from __future__ import annotations

from pathlib import Path

from tests.harness.access import Namespace
from tests.unit.test_component import WORKLOADS, kustomization, workload

RESTRICTED = "pod-security.kubernetes.io/warn=restricted"


def test_the_api_server_takes_every_kind_of_workload(namespace: Namespace, tmp_path: Path) -> None:
    """Without a warning: there is no field that it does not know, and nothing that `restricted` refuses."""
    namespace.kubectl("label", "namespace", namespace.name, RESTRICTED)
    directory = str(kustomization(tmp_path, *map(workload, WORKLOADS)))
    applied = namespace.kubectl("apply", "-k", directory, "--validate=strict", "--warnings-as-errors")
    assert len(applied.splitlines()) == 1 + len(WORKLOADS)
