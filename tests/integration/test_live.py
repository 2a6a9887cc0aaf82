"""`check --live` says what is allowed, and in the words of what would be logged if it were not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.access import Namespace, ServiceAccount, rule
from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher

PROGRAM = Path(sys.executable).with_name("kubectl-sidecar")
POD = "kubectl get pod web -o json | jq .status > pod"
SERVICES = "@watch kubectl get svc -n {} -o json > services"


def check(
    *words: str,
    kubeconfig: Path | str = "/dev/null",
    status: int = 0,
    prefix: tuple[str, ...] = (),
    **environ: str,
) -> tuple[list[str], str]:
    """The table, without what `check` says of each task, and stderr."""
    environ = {"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig), **environ}
    command: list[str | Path] = [*prefix, PROGRAM, "check", "--live", *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == status, done
    return [line for line in done.stdout.splitlines() if not line.startswith("LINE ")], done.stderr


def in_force(namespace: Namespace, rule: str, place: str = "") -> str:
    return f"{rule} in a Role in namespace {place or namespace.name}"


def test_it_is_asked_for_each_rule_as_the_identity_in_use_or_as_a_service_account(
    namespace: Namespace,
) -> None:
    account = namespace.service_account(rule("get", "pods", "web"), rule("list", "services"))
    admin = namespace.control_plane.admin_kubeconfig
    services = SERVICES.format(namespace.name)
    pod_rule = in_force(
        namespace, '{apiGroups: [""], resources: ["pods"], resourceNames: ["web"], verbs: ["get"]}'
    )
    list_rule, watch_rule = (
        in_force(namespace, f'{{apiGroups: [""], resources: ["services"], verbs: ["{verb}"]}}')
        for verb in ("list", "watch")
    )
    table = [
        "TASK      ALLOWED  RULE",
        f"pod       yes      {pod_rule}",
        f"services  yes      {list_rule}",
        f"services  no       {watch_rule}",
    ]
    assert check(POD, services, kubeconfig=account.kubeconfig, status=1)[0] == table
    named = f"{account.namespace}/{account.name}"
    assert check("--as", named, POD, services, kubeconfig=admin, status=1)[0] == table
    assert check(POD, kubeconfig=account.kubeconfig)[0][1:] == [f"pod   yes      {pod_rule}"]


def test_a_rule_is_asked_for_where_it_is_needed(namespace: Namespace) -> None:
    # A Role for nodes allows nothing, one in the wrong namespace nothing here, and a part is not the whole.
    rules = [rule("list get", "nodes pods"), rule("get", "deployments/scale", groups="apps")]
    account = namespace.service_account(*rules, cluster_rules=[rule("list", "namespaces")])
    answers = {
        "kubectl get nodes": "no",
        "kubectl get pods": "yes",
        "kubectl get pods -A": "no",
        "kubectl get pods -n default": "no",
        "kubectl get ns": "yes",
        "kubectl get deploy web": "no",
        "kubectl get deploy web --subresource=scale": "yes",
        "kubectl get deploy web --subresource=status": "no",
    }
    lines = [f"{line} > {number}" for number, line in enumerate(answers)]
    table = check(*lines, kubeconfig=account.kubeconfig, status=1)[0]
    assert [line.split()[1] for line in table[1:]] == list(answers.values())


@pytest.mark.parametrize(
    "line",
    [
        "kubectl get pod web -o json",
        "kubectl get pods --field-selector metadata.name=web",
        "kubectl get deploy web --subresource=status",
        "kubectl get nodes n1",
        "kubectl get ns default",
        "kubectl get --raw /metrics",
        "kubectl get --raw /api/v1/namespaces/default/pods/web/log",
        "kubectl get secrets -n kube-system",
        "kubectl get sc -l a=b",
    ],
)  # fmt: skip
def test_what_is_missing_is_said_as_the_log_says_it(
    namespace: Namespace, sidecar: Launcher, line: str
) -> None:
    account = namespace.service_account()
    table = check(f"{line} > f", kubeconfig=account.kubeconfig, status=1)[0]
    run = sidecar("--once", "--deadline", "1ms", f"{line} > f", account=account)
    assert run.wait() == 1
    (said,) = run.log_lines("f: failed")
    found = re.search(r"\(missing rule: (.*)\); giving up$", said)
    assert found, said
    assert table[1:] == [f"f     no       {found[1]}"]


def test_in_a_pod_it_asks_as_the_pod(namespace: Namespace) -> None:
    account = namespace.service_account(rule("get", "pods", "web"))
    plane = namespace.control_plane
    prefix = tuple(Isolation(service_account=account.mount_directory()).prefix())
    service = {"KUBERNETES_SERVICE_HOST": plane.network.address, "KUBERNETES_SERVICE_PORT": str(plane.port)}
    table = check(POD, "kubectl get svc > services", kubeconfig="", status=1, prefix=prefix, **service)[0]
    assert [line.split()[:2] for line in table[1:]] == [["pod", "yes"], ["services", "no"]]
    assert table[1].endswith(f" in a Role in namespace {namespace.name}")


def test_a_stage_that_cannot_be_judged_is_a_warning(namespace: Namespace) -> None:
    account = namespace.service_account(rule("get", "pods"))
    printed = check("--allow-unset", "kubectl get pod $P | bash -c cat > f", kubeconfig=account.kubeconfig)[0]
    assert printed[:2] == [
        "warning: LINE 1:1:1: f: $P is not set here: the rule is for any name",
        "warning: LINE 1:1:1: f: what `bash` needs is not known: it may ask the cluster for anything",
    ]
    assert [line.split()[:2] for line in printed[3:]] == [["f", "yes"]]


@pytest.mark.usefixtures("tools")
def test_a_cluster_that_cannot_be_reached_is_said_to_be_so(tmp_path: Path) -> None:
    said = "kubectl-sidecar: the cluster cannot be asked: "
    refused = check(POD, status=1)[1]
    assert refused.startswith(
        f"{said}kubectl exited with 1: The connection to the server localhost:8080 was refused"
    )
    missing = check(POD, kubeconfig=tmp_path / "nope", status=1)[1]
    assert missing.startswith(f"{said}KUBECONFIG names no file that exists")


def test_whoever_may_not_impersonate_is_told_so(namespace: Namespace) -> None:
    account: ServiceAccount = namespace.service_account()
    printed, said = check("--as", "default/default", POD, kubeconfig=account.kubeconfig, status=1)
    assert printed == []
    assert "the cluster cannot be asked: " in said
    assert "cannot impersonate" in said


def test_a_type_that_the_cluster_does_not_know_is_an_error(namespace: Namespace) -> None:
    admin = namespace.control_plane.admin_kubeconfig
    said = check("kubectl get foos > a", "kubectl get pods,bars > b", kubeconfig=admin, status=2)[1]
    assert said.splitlines()[::3] == [
        "LINE 1:1:1: `foos` is no type of objects that the cluster knows",
        "LINE 2:1:1: `bars` is no type of objects that the cluster knows",
    ]
