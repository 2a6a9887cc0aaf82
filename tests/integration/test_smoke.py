"""The whole way once: from a Pod in the API server to a file, as an account with the least rights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.access import Namespace, rule
from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher
from tests.harness.waiting import wait_until

LINE = "kubectl get pod web -o json | jq .status > status.json"


@pytest.mark.smoke
def test_a_file_follows_a_pods_status(namespace: Namespace, sidecar: Launcher) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods", "web"))
    run = sidecar("--every", "200ms", LINE, account=account)
    assert json.loads(run.wait_for_output("status.json"))["phase"] == "Pending"

    namespace.patch_pod_status("web", '{"phase": "Running"}')

    def follows() -> None:
        assert json.loads(run.output("status.json").read_bytes())["phase"] == "Running"

    wait_until(follows, what="the file does not follow")
    assert run.stop() == 0


@pytest.mark.smoke
def test_in_a_pod_it_needs_nothing_but_its_service_account(namespace: Namespace, sidecar: Launcher) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods", "web"))
    run = sidecar(LINE, account=account, in_cluster=True, isolation=Isolation(pid_1=True))
    assert json.loads(run.wait_for_output("status.json"))["phase"] == "Pending"
    assert run.stop() == 0


@pytest.mark.smoke
@pytest.mark.usefixtures("tools")
def test_what_pip_installs_is_a_program_and_a_module(tmp_path: Path) -> None:
    """From a place where the clone is not found."""
    program = str(Path(sys.executable).with_name("kubectl-sidecar"))
    said = [
        subprocess.run([*words, "version"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for words in ([program], [sys.executable, "-m", "kubectl_sidecar"])
    ]
    assert said[0] == said[1]
    assert said[0].startswith("kubectl-sidecar ")
