"""What kubectl finds around it: a kubeconfig where its own would do, and nothing of the user's changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kubectl_sidecar.kube import environment, in_cluster_kubeconfig, memory_file, watch_environment
from tests.unit.test_commands import run

IN_CLUSTER = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "HOME": "/no/such/home",
}


@pytest.fixture
def account(tmp_path: Path) -> str:
    """What a Pod finds mounted."""
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "namespace").write_text("shop\n")
    return str(tmp_path)


def test_it_says_what_kubectls_own_configuration_would(account: str) -> None:
    config = in_cluster_kubeconfig(IN_CLUSTER, account)
    assert config is not None
    assert json.loads(config) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "in-cluster",
                "cluster": {"server": "https://10.0.0.1:443", "certificate-authority": f"{account}/ca.crt"},
            }
        ],
        "users": [{"name": "in-cluster", "user": {"tokenFile": f"{account}/token"}}],
        "contexts": [
            {
                "name": "in-cluster",
                "context": {"cluster": "in-cluster", "user": "in-cluster", "namespace": "shop"},
            }
        ],
        "current-context": "in-cluster",
    }
    assert "t0ken" not in config


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("variables", "server", "namespace"),
    [
        ({}, "https://10.0.0.1:443", "shop"),
        ({"POD_NAMESPACE": "other"}, "https://10.0.0.1:443", "other"),
        ({"POD_NAMESPACE": ""}, "https://10.0.0.1:443", "shop"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1"}, "https://[fd00::1]:443", "shop"),
        ({"KUBECONFIG": ""}, "https://10.0.0.1:443", "shop"),
    ],
)
def test_kubectl_reads_it_from_memory(
    account: str, variables: dict[str, str], server: str, namespace: str
) -> None:
    config = in_cluster_kubeconfig({**IN_CLUSTER, **variables}, account)
    assert config is not None
    path = memory_file(config)
    around = environment({**os.environ, **variables}, kubeconfig=path, cache=None)
    view = "{.clusters[0].cluster.server} {.contexts[0].context.namespace}"
    ended, output = run(("kubectl", "config", "view", f"--output=jsonpath={view}"), environment=around)
    os.close(int(Path(path).name))
    assert (ended.statuses, ended.stderrs, output.decode()) == ((0,), ("",), f"{server} {namespace}")


def test_without_a_namespace_it_is_the_default_one(account: str) -> None:
    Path(account, "namespace").unlink()
    config = in_cluster_kubeconfig(IN_CLUSTER, account)
    assert config is not None
    assert '"namespace": "default"' in config


@pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
def test_outside_a_cluster_there_is_none(account: str, missing: str) -> None:
    assert in_cluster_kubeconfig({**IN_CLUSTER, missing: ""}, account) is None


def test_without_a_token_there_is_none(tmp_path: Path) -> None:
    assert in_cluster_kubeconfig(IN_CLUSTER, str(tmp_path)) is None


def test_the_users_kubeconfig_wins(account: str, tmp_path: Path) -> None:
    assert in_cluster_kubeconfig({**IN_CLUSTER, "KUBECONFIG": "/any/file"}, account) is None
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").touch()
    assert in_cluster_kubeconfig({**IN_CLUSTER, "HOME": str(tmp_path)}, account) is None


def test_the_environment_is_the_users_and_what_kubectl_needs() -> None:
    assert environment({"PATH": "/bin", "EMPTY": ""}, kubeconfig="/proc/1/fd/5", cache="/run/cache") == {
        "PATH": "/bin",
        "EMPTY": "",
        "GOGC": "off",
        "GOMAXPROCS": "1",
        "GOMEMLIMIT": "64MiB",
        "KUBERC": "off",
        "KUBECACHEDIR": "/run/cache",
        "KUBECONFIG": "/proc/1/fd/5",
    }


def test_what_the_user_has_set_wins() -> None:
    theirs = {
        "GOGC": "50",
        "GOMAXPROCS": "4",
        "GOMEMLIMIT": "1GiB",
        "KUBERC": "on",
        "KUBECACHEDIR": "/cache",
        "KUBECONFIG": "/config",
    }
    assert environment(theirs, kubeconfig="/proc/1/fd/5", cache="/run/cache") == theirs


def test_without_a_cache_directory_kubectl_writes_nowhere() -> None:
    assert environment({}, kubeconfig=None, cache=None)["KUBECACHEDIR"] == "/dev/null"


def test_a_kubectl_that_lives_long_collects_its_garbage_and_finds_dead_connections() -> None:
    polled = environment({"HTTP2_PING_TIMEOUT_SECONDS": "1"}, kubeconfig=None, cache="/cache")
    assert watch_environment(polled) == {
        "GOGC": "50",
        "KUBERC": "off",
        "KUBECACHEDIR": "/cache",
        "HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10",
        "HTTP2_PING_TIMEOUT_SECONDS": "1",
    }
