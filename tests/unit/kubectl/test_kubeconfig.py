"""What kubectl finds around it: a kubeconfig where its own would do, and nothing of the user's changed."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path

import pytest

from kubectl_sidecar.kubectl import kubeconfig
from kubectl_sidecar.kubectl.kubeconfig import (
    DiscoveryCache,
    in_cluster_kubeconfig,
    stage_environment,
    watch_environment,
)
from kubectl_sidecar.process.pipeline import Launcher
from kubectl_sidecar.process.signals import Groups
from tests.unit.kubectl.running import run

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


@pytest.mark.parametrize(
    ("variables", "server", "namespace"),
    [
        ({"POD_NAMESPACE": "other"}, "https://10.0.0.1:443", "other"),
        ({"POD_NAMESPACE": ""}, "https://10.0.0.1:443", "shop"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1"}, "https://[fd00::1]:443", "shop"),
        ({"KUBECONFIG": ""}, "https://10.0.0.1:443", "shop"),
    ],
)
def test_it_follows_the_environment_as_kubectl_does(
    account: str, variables: dict[str, str], server: str, namespace: str
) -> None:
    config = json.loads(in_cluster_kubeconfig({**IN_CLUSTER, **variables}, account) or "")
    assert config["clusters"][0]["cluster"]["server"] == server
    assert config["contexts"][0]["context"]["namespace"] == namespace


@pytest.mark.usefixtures("tools")
def test_kubectl_reads_it_from_memory(account: str) -> None:
    launcher = Launcher(Groups(), grace=5.0, max_output=1 << 20, directory=None)
    # Set, but empty, it counts as not set: the kubeconfig in memory is taken.
    pod = {**os.environ, **IN_CLUSTER, "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBECONFIG": ""}
    around = stage_environment(pod, launcher.memory_file, None, account)
    view = "{.clusters[0].cluster.server} {.contexts[0].context.namespace}"
    ended, output = run(("kubectl", "config", "view", f"--output=jsonpath={view}"), environment=around)
    os.close(int(around["KUBECONFIG"].rpartition("/")[2]))
    assert (ended.statuses, ended.stderrs, output) == ((0,), ("",), b"https://[fd00::1]:443 shop")


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


def test_a_kubeconfig_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()
    text = "KUBECONFIG names no file that exists, and kubectl goes on as if it were not set"
    assert kubeconfig.problem({"KUBECONFIG": str(missing)}) == text
    assert kubeconfig.problem({"KUBECONFIG": f"{missing}:{missing}2:"}) == text
    for fine in ({}, {"KUBECONFIG": ""}, {"KUBECONFIG": str(there)}, {"KUBECONFIG": f"{missing}:{there}"}):
        assert kubeconfig.problem(fine) is None


@pytest.mark.usefixtures("tools")
def test_kubectl_passes_over_kubeconfigs_that_do_not_exist(tmp_path: Path) -> None:
    config = tmp_path / "there"
    config.write_text("current-context: mine")
    argv = ("kubectl", "config", "view", "--output=jsonpath={.current-context}")
    for paths, expected in ((f"{tmp_path}/missing:{config}", b"mine"), (f"{tmp_path}/missing", b"")):
        ended, output = run(argv, environment={**os.environ, "KUBECONFIG": paths})
        assert (ended.statuses, ended.stderrs, output) == ((0,), ("",), expected)


def no_memory_file(name: str) -> int:
    raise AssertionError(f"nothing needs a {name}")


def test_the_environment_is_the_users_and_what_kubectl_needs(account: str, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    fd = os.open(kubeconfig, os.O_WRONLY | os.O_CREAT)
    theirs = {**IN_CLUSTER, "PATH": "/bin", "EMPTY": ""}
    assert stage_environment(theirs, lambda _: fd, "/run/cache", account) == {
        **theirs,
        "GOGC": "off",
        "GOMAXPROCS": "1",
        "GOMEMLIMIT": "64MiB",
        "KUBERC": "off",
        "KUBECACHEDIR": "/run/cache",
        "KUBECONFIG": f"/proc/{os.getpid()}/fd/{fd}",
    }
    os.close(fd)
    assert kubeconfig.read_text() == in_cluster_kubeconfig(IN_CLUSTER, account)


def test_what_the_user_has_set_wins(account: str) -> None:
    theirs = {
        **IN_CLUSTER,
        "GOGC": "50",
        "GOMAXPROCS": "4",
        "GOMEMLIMIT": "1GiB",
        "KUBERC": "on",
        "KUBECACHEDIR": "/cache",
        "KUBECONFIG": "/config",
    }
    assert stage_environment(theirs, no_memory_file, "/run/cache", account) == theirs


def test_without_a_cache_directory_kubectl_writes_nowhere() -> None:
    assert stage_environment({}, no_memory_file, None)["KUBECACHEDIR"] == "/dev/null"


def test_a_kubectl_that_lives_long_collects_its_garbage_and_finds_dead_connections() -> None:
    polled = stage_environment({"HTTP2_PING_TIMEOUT_SECONDS": "1"}, no_memory_file, "/cache")
    assert watch_environment(polled) == {
        "GOGC": "50",
        "KUBERC": "off",
        "KUBECACHEDIR": "/cache",
        "HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10",
        "HTTP2_PING_TIMEOUT_SECONDS": "1",
    }


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A KUBECACHEDIR in which a kubectl has been."""
    fill(tmp_path)
    (tmp_path / "http").mkdir()
    (tmp_path / "http/answer").touch()
    return tmp_path


def fill(directory: Path) -> None:
    (directory / "discovery/10.0.0.1_443/v1").mkdir(parents=True)
    (directory / "discovery/10.0.0.1_443/v1/serverresources.json").touch()


def test_discovery_is_forgotten_after_ten_minutes_and_the_http_cache_is_kept(cached: Path) -> None:
    clock = Clock()
    cache = DiscoveryCache(str(cached), clock)
    clock.now += 599
    cache.expire()
    assert (cached / "discovery").exists()
    clock.now += 1
    cache.expire()
    assert [path.name for path in cached.iterdir()] == ["http"]
    assert (cached / "http/answer").exists()
    fill(cached)
    clock.now += 599
    cache.expire()
    assert (cached / "discovery").exists()
    clock.now += 1
    cache.expire()
    assert not (cached / "discovery").exists()


def test_discovery_that_is_known_to_be_stale_is_forgotten_at_once(cached: Path) -> None:
    clock = Clock()
    cache = DiscoveryCache(str(cached), clock)
    clock.now += 599
    cache.drop()
    assert [path.name for path in cached.iterdir()] == ["http"]
    fill(cached)
    clock.now += 599
    cache.expire()
    assert (cached / "discovery").exists()


def test_what_a_kubectl_wrote_into_a_dropped_cache_does_not_keep_the_next_from_being_dropped(
    cached: Path,
) -> None:
    (cached / "discovery").rename(cached / "discovery.old")
    fill(cached)
    DiscoveryCache(str(cached)).drop()
    assert [path.name for path in cached.iterdir()] == ["http"]


@pytest.mark.parametrize("directory", [None, "/no/such/directory", "/dev/null"])
def test_where_there_is_nothing_to_forget_nothing_is_done(directory: str | None) -> None:
    DiscoveryCache(directory).drop()


def test_it_may_be_dropped_by_many_at_once_while_others_fill_it(cached: Path) -> None:
    cache = DiscoveryCache(str(cached))
    start = threading.Barrier(4)
    errors: list[OSError] = []

    def drop() -> None:
        start.wait()
        try:
            for _ in range(50):
                cache.drop()
        except OSError as error:
            errors.append(error)

    def write() -> None:
        start.wait()
        for number in range(50):
            with contextlib.suppress(OSError):  # as kubectl, which does without
                (cached / f"discovery/{number}").mkdir(parents=True)

    threads = [threading.Thread(target=work) for work in (drop, write) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    cache.drop()
    assert [path.name for path in cached.iterdir()] == ["http"]
