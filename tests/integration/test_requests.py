"""What the API server sees of a refresh, by its audit log, and what is said when it refuses."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml

from tests.harness.access import Namespace, ServiceAccount, rule
from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

GET = "kubectl get pod web -o json"


def refresh(run: Sidecar, namespace: Namespace, phase: str) -> None:
    """Change the Pod, refresh at once, and wait for the change to be in the file."""
    namespace.patch_pod_status("web", json.dumps({"phase": phase}))
    run.send(signal.SIGUSR1)
    wait_until(lambda: json.loads(run.output("phase").read_text()) == phase, what=run.log())


@pytest.fixture
def account(namespace: Namespace) -> ServiceAccount:
    namespace.create_pod("web")
    return namespace.service_account(rule("get", "pods", "web"))


@pytest.mark.parametrize("in_cluster", [False, True])
def test_every_refresh_after_the_first_is_one_request(
    namespace: Namespace, account: ServiceAccount, sidecar: Launcher, in_cluster: bool
) -> None:
    mark = namespace.control_plane.audit_mark()
    run = sidecar(
        "--every", "1h", f"{GET} | jq .status.phase > phase", account=account, in_cluster=in_cluster
    )
    run.wait_for_output("phase")
    for phase in ("Running", "Failed", "Running"):
        refresh(run, namespace, phase)
    assert run.stop() == 0
    requests = namespace.control_plane.requests_since(mark, account.user)
    assert sorted(request.uri.partition("?")[0] for request in requests[:2]) == ["/api", "/apis"]
    pod = f"/api/v1/namespaces/{namespace.name}/pods/web"
    assert [request.uri for request in requests[2:]] == [pod] * 4


def test_with_nothing_writable_but_the_outputs_it_works_and_says_what_that_costs(
    namespace: Namespace, account: ServiceAccount, sidecar: Launcher, tmp_path: Path
) -> None:
    mark = namespace.control_plane.audit_mark()
    volume = tmp_path / "volume"
    volume.mkdir()
    run = sidecar(
        "--every", "1h", f"{GET} | jq .status.phase > phase",
        account=account,
        in_cluster=True,
        env={"TMPDIR": "", "HOME": ""},
        isolation=Isolation(read_only_but=volume),
        output_directory=volume,
    )  # fmt: skip
    run.wait_for_output("phase")
    refresh(run, namespace, "Running")
    assert run.stop() == 0
    (said,) = run.log_lines(" warn .*cache")
    assert said.partition(" warn ")[2] == (
        "no writable directory for kubectl's discovery cache (tried /tmp, /dev/shm):"
        " each refresh costs three API requests instead of one; mount an emptyDir at /tmp"
    )
    assert [path.name for path in volume.iterdir()] == ["phase"]
    requests = namespace.control_plane.requests_since(mark, account.user)
    assert len(requests) == 6


def test_what_is_forbidden_is_named_as_the_rule_that_is_missing_and_that_rule_is_enough(
    namespace: Namespace, sidecar: Launcher
) -> None:
    namespace.create_pod("web")
    account = namespace.service_account()
    run = sidecar(f"{GET} | jq .status.phase > phase", account=account)
    line = run.wait_for_log("missing rule")
    text, _, place = line.partition("(missing rule: ")[2].partition(" in a Role in namespace ")
    assert place.startswith(f"{namespace.name})")
    missing = yaml.safe_load(text)
    assert missing == {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["web"], "verbs": ["get"]}

    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "missing"}}
    namespace.kubectl("apply", "-f", "-", stdin=json.dumps({**role, "rules": [missing]}))
    subject = f"--serviceaccount={namespace.name}:{account.name}"
    namespace.kubectl("create", "rolebinding", "missing", "--role=missing", subject)

    def allowed() -> bool:
        run.send(signal.SIGUSR1)
        return run.output("phase").exists()

    wait_until(allowed, what=run.log())
    run.wait_for_log("phase: recovered after ")
    assert run.stop() == 0


@pytest.mark.parametrize(("on_missing", "left"), [("keep", True), ("remove", False)])
def test_an_object_that_went_away_is_treated_as_asked(
    namespace: Namespace, account: ServiceAccount, sidecar: Launcher, on_missing: str, left: bool
) -> None:
    line = f"@on-missing {on_missing} {GET} | jq .status.phase > phase"
    run = sidecar("--every", "1h", line, account=account)
    run.wait_for_output("phase")
    namespace.kubectl("delete", "pod", "web", "--now")
    run.send(signal.SIGUSR1)
    if left:
        not_found = r'Error from server \(NotFound\): pods "web" not found'
        run.wait_for_log(f"phase: failed: kubectl exited with 1: {not_found}; next attempt in ")
    else:
        run.wait_for_log("phase: changed: removed: the object does not exist$")
    assert run.output("phase").exists() == left
    assert run.stop() == 0


def test_an_api_server_that_is_away_is_waited_for(
    namespace: Namespace, account: ServiceAccount, sidecar: Launcher
) -> None:
    run = sidecar("--every", "100ms", f"{GET} | jq .status.phase > phase", account=account)
    run.wait_for_output("phase")
    namespace.control_plane.stop_api_server()
    try:
        run.wait_for_log("phase: failed: kubectl exited with 1: .*was refused", timeout=20)
        assert run.output("phase").read_text() == '"Pending"\n'
    finally:
        namespace.control_plane.start_api_server()
    run.send(signal.SIGUSR1)
    run.wait_for_log("phase: recovered after ", timeout=30)
    assert run.stop() == 0
