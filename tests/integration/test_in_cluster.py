"""In a Pod: the service account's mounted directory and two variables are all there is."""

from __future__ import annotations

import json
import signal

from tests.harness.access import Namespace, rule
from tests.harness.sidecar import Launcher
from tests.harness.waiting import wait_until


def test_flags_that_end_kubectls_own_in_cluster_configuration_do_no_harm(
    namespace: Namespace, sidecar: Launcher
) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods", "web"))
    flags = "--request-timeout=5s --disable-compression"
    run = sidecar(f"kubectl {flags} get pod web -o json | jq .kind > kind", account=account, in_cluster=True)
    assert run.wait_for_output("kind") == b'"Pod"\n'
    assert run.stop() == 0


def test_a_rotated_token_is_used_without_a_failed_refresh(namespace: Namespace, sidecar: Launcher) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods", "web"))
    line = "kubectl get pod web -o json | jq .status.phase > phase"
    run = sidecar("--every", "1h", line, account=account, in_cluster=True)
    run.wait_for_output("phase")

    # The account of before, and so its token, exist no more.
    namespace.kubectl("delete", "serviceaccount", account.name)
    namespace.kubectl("create", "serviceaccount", account.name)
    account.rotate_token()
    namespace.patch_pod_status("web", '{"phase": "Running"}')
    run.send(signal.SIGUSR1)
    wait_until(lambda: json.loads(run.output("phase").read_text()) == "Running", what=run.log())
    assert run.log_lines("failed") == []
    assert run.stop() == 0


def test_a_token_that_is_no_longer_valid_is_a_failure_until_it_is_rotated(
    namespace: Namespace, sidecar: Launcher
) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods", "web"))
    run = sidecar("kubectl get pod web -o json | jq .kind > kind", account=account, in_cluster=True)
    run.wait_for_output("kind")
    token = account.token_file.read_text()
    namespace.kubectl("delete", "serviceaccount", account.name)
    namespace.kubectl("create", "serviceaccount", account.name)

    def refused() -> bool:
        run.send(signal.SIGUSR1)
        return bool(
            run.log_lines("kind: failed: kubectl exited with 1: error: You must be logged in to the server")
        )

    wait_until(refused, timeout=30, what=run.log())
    account.rotate_token()
    run.send(signal.SIGUSR1)
    run.wait_for_log("kind: recovered after ", timeout=30)
    assert token not in run.log()
    assert account.token_file.read_text() not in run.log()
    assert run.stop() == 0
