"""What probes and Prometheus get over HTTP while the cluster, the tasks and the clients change."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import tools as pinned
from tests.harness.access import Namespace, rule
from tests.harness.configmap import ConfigMap
from tests.harness.control_plane import ControlPlane
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

ONE = "@every 500ms jq -n 1 > one"
# KiB: what --http may cost, and what a thousand clients may cost beyond that.
MOST_MEMORY, MOST_MEMORY_OF_CLIENTS = 6 << 10, 3 << 10


class Answers:
    """What a running sidecar answers over HTTP."""

    def __init__(self, run: Sidecar) -> None:
        self.run = run
        line = run.wait_for_log(r"http: listening on 127\.0\.0\.1:\d+$")
        self.address = "127.0.0.1", int(line.rpartition(":")[2])

    def get(self, path: str) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection(*self.address, timeout=30)) as connection:
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def becomes(self, path: str, status: int, pattern: str, timeout: float = 15.0) -> str:
        def answered() -> str:
            found, text = self.get(path)
            assert found == status, f"{text}\n{self.run.log()}"
            assert re.fullmatch(pattern, text.rstrip("\n")), text
            return text

        return wait_until(answered, timeout)

    def metrics(self) -> dict[str, float]:
        """The value of each sample, as `attempts_total one success`."""
        status, text = self.get("metrics")
        assert status == 200
        families = text_string_to_metric_families(text)
        return {
            " ".join([
                sample.name.removeprefix("kubectl_sidecar_").removeprefix("task_"),
                *[value for name, value in sorted(sample.labels.items(), reverse=True)],
            ]): sample.value
            for family in families
            for sample in family.samples
        }  # fmt: skip

    def metric_becomes(self, name: str, is_right: Callable[[float], bool], timeout: float = 15.0) -> float:
        def value() -> float:
            found = self.metrics().get(name)
            assert found is not None, f"no {name}:\n{self.run.log()}"
            assert is_right(found), f"{name} is {found}\n{self.run.log()}"
            return found

        return wait_until(lambda: [value()], timeout)[0]


@pytest.fixture
def serving(sidecar: Launcher) -> Callable[..., Answers]:
    """Starts a sidecar with --http, on a port that nobody else has."""
    return lambda *words, **options: Answers(sidecar("--http=127.0.0.1:0", *words, **options))


def test_a_success_a_failure_and_a_recovery(
    serving: Callable[..., Answers], namespace: Namespace, control_plane: ControlPlane
) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods", "web"))
    line = "@every 1s @timeout 5s kubectl get pod web -o name > web"
    answers = serving(line, account=account, env={"KUBECTL_SIDECAR_MAX_AGE": "4s"})
    answers.becomes("startupz", 200, "started")
    answers.becomes("readyz", 200, "ready")
    found = answers.metrics()
    started = found["process_start_time_seconds"]
    assert found["last_success_timestamp_seconds web"] >= found["last_change_timestamp_seconds web"] > started
    assert (found["output_bytes web"], found["period_seconds web"]) == (8.0, 1.0)
    assert found["attempt_duration_seconds_count web"] >= found["attempts_total web success"] >= 1.0
    assert "watch_connected web" not in found
    control_plane.stop_api_server()
    try:
        pattern = r"not ready: web: the last success was \S+ ago, the limit is 4s: kubectl exited with 1: .*"
        answers.becomes("readyz", 503, pattern)
        answers.metric_becomes("consecutive_failures web", lambda failures: failures >= 2)
        assert answers.metrics()["attempts_total web failure"] >= 2
        assert answers.get("livez") == (200, "alive\n")
        assert answers.get("startupz") == (200, "started\n")
    finally:
        control_plane.start_api_server()
    answers.becomes("readyz", 200, "ready", timeout=40)
    assert answers.metrics()["consecutive_failures web"] == 0.0
    assert answers.run.stop() == 0


def test_a_watch_that_is_lost_and_had_again(
    serving: Callable[..., Answers], namespace: Namespace, control_plane: ControlPlane
) -> None:
    configmap = ConfigMap(namespace)
    configmap.create(n="0")
    line = "@watch @timeout 5s kubectl get configmap web -o json | jq -r '.data.n' > n"
    answers = serving(line, account=configmap.watcher())
    answers.metric_becomes("watch_connected n", lambda value: value == 1.0)
    control_plane.stop_api_server()
    try:
        answers.metric_becomes("watch_connected n", lambda value: value == 0.0)
    finally:
        control_plane.start_api_server()
    answers.metric_becomes("watch_connected n", lambda value: value == 1.0, timeout=40)


def test_a_reload_takes_the_samples_of_what_is_gone(serving: Callable[..., Answers], tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.write_text(f"{ONE}\n@on-change true jq -n 2 > two\n")
    answers = serving("-f", tasks)
    answers.metric_becomes("hook_attempts_total two success", lambda value: value == 1.0)
    before = answers.metric_becomes("attempts_total one success", lambda value: value >= 2)
    tasks.write_text(ONE)
    answers.run.send(signal.SIGHUP)
    answers.run.wait_for_log("reloaded: ")
    found = answers.metrics()
    assert not [name for name in found if re.search(r"\btwo\b", name)]
    assert found["attempts_total one success"] >= before
    tasks.write_text("no output\n")
    answers.run.send(signal.SIGHUP)
    answers.metric_becomes("last_reload_successful", lambda value: value == 0.0)
    tasks.write_text(ONE)
    answers.run.send(signal.SIGHUP)
    answers.metric_becomes("last_reload_successful", lambda value: value == 1.0)


def test_the_versions_are_those_of_the_programs(serving: Callable[..., Answers]) -> None:
    text = serving(ONE).get("metrics")[1]
    pins = pinned.pins()
    platform = next(platform for name, platform in pins if name == "jq")
    line = re.search(r"^kubectl_sidecar_build_info{(.*)} 1.0$", text, re.MULTILINE)
    assert line
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line[1]))
    assert labels["kubectl"] == pins["kubectl", platform].version.removeprefix("v")
    assert labels["version"]
    assert re.fullmatch(r"3\.\d+\.\d+", labels["python"])


def test_a_port_in_use_does_not_keep_the_outputs_from_being_made(sidecar: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = sidecar(f"--http=127.0.0.1:{port}", ONE)
        line = run.wait_for_log(" error ")
        assert (
            f" error --http: cannot listen on 127.0.0.1:{port}: Address already in use; next attempt in "
            in line
        )
        assert run.wait_for_output("one") == b"1\n"
    assert Answers(run).get("livez") == (200, "alive\n")
    assert run.stop() == 0


def memory(run: Sidecar) -> int:
    """Its proportional set size, in KiB."""
    text = Path(f"/proc/{run.pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss: +(\d+)", text, re.MULTILINE)[0])


def test_it_costs_little_memory_and_a_thousand_idle_clients_little_more(
    serving: Callable[..., Answers], sidecar: Launcher
) -> None:
    one_arena = {"MALLOC_ARENA_MAX": "1"}  # as in the image
    without = sidecar(ONE, env=one_arena)
    answers = serving(ONE, env=one_arena)
    for run in (without, answers.run):
        run.wait_for_log("first success")
    for _ in range(20):
        answers.metrics()
        assert answers.get("readyz")[0] == 200
    with_http = memory(answers.run)
    assert with_http - memory(without) <= MOST_MEMORY
    descriptors = Path(f"/proc/{answers.run.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for path in ("livez", "metrics"):
        clients = [socket.create_connection(answers.address, timeout=30) for _ in range(1000)]
        for client in clients:
            # Half a request, and a whole one whose answer nobody reads.
            head = f"GET /{path} HTTP/1.1\r\n".encode()
            client.sendall(head + (b"\r\n" if path == "metrics" else b"X: " + b"x" * 8000))
        assert answers.get("livez") == (200, "alive\n")
        assert len(list(descriptors.iterdir())) <= before + 64 + 4
        assert memory(answers.run) - with_http <= MOST_MEMORY_OF_CLIENTS
        for client in clients:
            client.close()
    assert answers.run.stop() == 0
