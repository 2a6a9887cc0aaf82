"""The control plane and the ways to run a program in it do what their users rely on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.access import Namespace, rule
from tests.harness.control_plane import ControlPlane
from tests.harness.isolation import TOKEN_DIRECTORY, Isolation
from tests.harness.processes import marked
from tests.harness.signals import deaf
from tests.harness.waiting import wait_until


def kubectl_as(kubeconfig: Path, tools: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)}
    return subprocess.run(
        [tools / "kubectl", *arguments], env=env, capture_output=True, text=True, check=False
    )


def test_a_service_account_may_do_what_its_rules_say_and_no_more(namespace: Namespace, tools: Path) -> None:
    namespace.create_pod("web")
    namespace.create_pod("other")
    account = namespace.service_account(rule("get", "pods", "web"))
    assert kubectl_as(account.kubeconfig, tools, "get", "pod", "web").returncode == 0
    assert "Forbidden" in kubectl_as(account.kubeconfig, tools, "get", "pod", "other").stderr
    assert "Forbidden" in kubectl_as(account.kubeconfig, tools, "get", "nodes").stderr


def test_the_audit_log_counts_requests(
    namespace: Namespace, control_plane: ControlPlane, tools: Path
) -> None:
    namespace.create_pod("web")
    account = namespace.service_account(rule("get", "pods"))
    path = f"/api/v1/namespaces/{namespace.name}/pods/web"
    mark = control_plane.audit_mark()
    for _ in range(3):
        kubectl_as(account.kubeconfig, tools, "get", "--raw", path)
    made = control_plane.requests_since(mark, account.user)
    assert [(request.verb, request.resource, request.name) for request in made] == [
        ("get", "pods", "web")
    ] * 3
    assert control_plane.requests_since(control_plane.audit_mark(), account.user) == []


def test_the_api_server_comes_back_with_its_data(namespace: Namespace, control_plane: ControlPlane) -> None:
    namespace.create_pod("web")
    control_plane.stop_api_server()
    with pytest.raises(OSError, match="refused"):
        control_plane.request("GET", "/readyz")
    control_plane.start_api_server()
    assert namespace.kubectl("get", "pods", "--output=name") == "pod/web\n"


def test_a_rotated_token_is_another_one(namespace: Namespace) -> None:
    account = namespace.service_account()
    before = account.token_file.read_text()
    account.rotate_token()
    assert account.token_file.read_text() != before


def isolated(isolation: Isolation, script: str) -> str:
    command = [*isolation.prefix(), "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_program_can_be_pid_1() -> None:
    assert isolated(Isolation(pid_1=True), "echo $$") == "1\n"


def test_a_program_can_have_a_small_file_system(tmp_path: Path) -> None:
    script = f"head -c 200000 /dev/zero > {tmp_path}/file || stat -c %s {tmp_path}/file"
    assert isolated(Isolation(tmpfs=(tmp_path, 65536)), script) == "65536\n"
    assert not list(tmp_path.iterdir())


def test_a_program_can_find_a_pods_service_account(namespace: Namespace) -> None:
    account = namespace.service_account()
    isolation = Isolation(service_account=account.mount_directory())
    assert isolated(isolation, f"cat {TOKEN_DIRECTORY}/namespace") == namespace.name
    assert isolated(isolation, f"cat {TOKEN_DIRECTORY}/token") == account.token_file.read_text()
    assert not Path(TOKEN_DIRECTORY).exists()


def test_a_program_can_be_kept_from_writing_anywhere_else(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    others = ["/tmp", "/dev/shm", "/run", "/var/tmp", str(tmp_path)]
    attempts = "; ".join(f"touch {other}/x 2> /dev/null && echo {other}" for other in others)
    script = f"{attempts}; touch {tmp_path}/outputs/x && echo written"
    assert isolated(Isolation(read_only_but=tmp_path / "outputs"), script) == "written\n"


# A signal that comes just before it waits for one would leave signal.pause() waiting for ever.
INTERRUPTED = """
import time

def test_that_lasts(control_plane, sidecar, tmp_path):
    print("ready", control_plane.directory, flush=True)
    while True:
        time.sleep(0.05)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_an_interrupted_run(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "test_lasting.py").write_text(INTERRUPTED)
    options = ["--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "base"), "-o", "addopts="]
    # As after nohup, or in the background of a script.
    command = deaf(sys.executable, "-m", "pytest", "-s", "-p", "tests.conftest", *options)
    env = {**os.environ, "MARK": str(tmp_path)}
    command.append(str(tmp_path / "test_lasting.py"))
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout
            line = next((line for line in run.stdout if "ready" in line), "")
            assert re.search("ready /", line), "the run did not start"
            assert len(marked(f"MARK={tmp_path}")) >= 3
            run.send_signal(number)
            run.wait(30)
        finally:
            run.kill()
    started = time.monotonic()

    def none_left() -> None:
        left = marked(f"MARK={tmp_path}")
        assert not left, left

    wait_until(none_left)
    assert time.monotonic() - started < 5
