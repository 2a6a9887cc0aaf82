"""What the probes and the status say while the cluster, the rights and the program fail and recover."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.access import Namespace, ServiceAccount, rule
from tests.harness.control_plane import ControlPlane
from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

LINE = "@every 1s @timeout 5s kubectl get pod web -o json | jq -r .metadata.name > web"
OPTIONAL = "@optional @every 1s kubectl get pod other -o json | jq -r .metadata.name > other"


@dataclass
class Watched:
    """A running sidecar, and what its probes and its status say."""

    launcher: Launcher
    sidecar: Sidecar
    env: dict[str, str]

    def ask(self, *words: str, isolation: Isolation | None = None) -> tuple[int, str]:
        """The exit status of a command, and what it prints."""
        command = [*(isolation or Isolation()).prefix(), str(self.launcher.program), *words]
        env = {"PATH": os.environ["PATH"], **self.env}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, (done.stdout + done.stderr).rstrip("\n")

    def status(self, output: str = "web") -> dict[str, Any]:
        """The status of a task."""
        code, text = self.ask("status", "-o", "json")
        assert code == 0, text
        return next(task for task in json.loads(text)["tasks"] if task["output"] == output)

    def becomes(self, line: str, *words: str, timeout: float = 15.0) -> str:
        """Wait until health says this, in its first words."""

        def said() -> str:
            code, text = self.ask("health", *words)
            assert text.startswith(line), f"{text}\n{self.sidecar.log()}"
            assert code == int(line.startswith("not "))
            return text

        return wait_until(said, timeout, interval=0.1)


@dataclass
class Watch:
    launcher: Launcher
    directory: Path

    def __call__(
        self, *arguments: str, account: ServiceAccount | None = None, isolation: Isolation | None = None
    ) -> Watched:
        env = {"TMPDIR": str(self.directory)}
        started = self.launcher(*arguments, account=account, env=env, isolation=isolation)
        return Watched(self.launcher, started, env)


@pytest.fixture
def watch(sidecar: Launcher, tmp_path: Path) -> Watch:
    """Starts a sidecar whose private directory is in `directory`."""
    directory = tmp_path / "private"
    directory.mkdir()
    return Watch(sidecar, directory)


@pytest.fixture
def web(namespace: Namespace) -> ServiceAccount:
    namespace.create_pod("web")
    return namespace.service_account(rule("get", "pods", "web", "other"))


def test_an_api_server_that_is_down_fails_readiness_alone(
    watch: Watch, web: ServiceAccount, control_plane: ControlPlane
) -> None:
    watched = watch(LINE, account=web)
    watched.becomes("started", "--startup")
    watched.becomes("ready", "--ready", "--max-age=5s")
    control_plane.stop_api_server()
    try:
        stale = watched.becomes("not ready: web: the last success was ", "--ready", "--max-age=5s")
        assert ", the limit is 5s: kubectl exited with 1: " in stale
        assert "refused" in stale
        assert watched.ask("health") == (0, "alive")
        assert watched.ask("health", "--startup") == (0, "started")
        failing = watched.status()
        assert (failing["state"], failing["bytes"]) == ("failing", 4)
        assert failing["failures"] >= 1
        assert failing["failingSince"] > failing["lastSuccess"]
        assert watched.sidecar.output("web").read_text() == "web\n"
    finally:
        control_plane.start_api_server()
    watched.becomes("ready", "--ready", "--max-age=5s", timeout=40)
    healed = watched.status()
    assert (healed["state"], healed["failures"], healed["lastError"]) == ("ok", 0, None)
    assert healed["lastChange"] < failing["failingSince"]


def test_a_revoked_role_is_named_and_a_granted_one_heals(
    watch: Watch, web: ServiceAccount, namespace: Namespace
) -> None:
    watched = watch(LINE, account=web)
    watched.becomes("started", "--startup")
    role = json.loads(namespace.kubectl("get", "role", "sidecar", "-o", "json"))
    namespace.kubectl("delete", "role", "sidecar")
    text = watched.becomes("not ready: web: the last success was ", "--ready", "--max-age=3s")
    missing = '(missing rule: {apiGroups: [""], resources: ["pods"], resourceNames: ["web"], verbs: ["get"]}'
    assert missing in text
    assert watched.ask("health") == (0, "alive")
    del role["metadata"]["resourceVersion"], role["metadata"]["uid"]
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(role))
    watched.becomes("ready", "--ready", "--max-age=3s", timeout=30)
    assert watched.status()["lastError"] is None


def test_a_missing_object_fails_startup_until_it_is_there(
    watch: Watch, web: ServiceAccount, namespace: Namespace
) -> None:
    namespace.kubectl("delete", "pod", "web", "--force")
    watched = watch(LINE, OPTIONAL, account=web)
    text = watched.becomes("not started: web: no success yet: kubectl exited with 1: ", "--startup")
    assert text.endswith('Error from server (NotFound): pods "web" not found')
    assert watched.ask("health") == (0, "alive")
    namespace.create_pod("web")
    watched.becomes("started", "--startup")
    assert watched.status("other")["state"] == "failing"
    watched.becomes("ready", "--ready", "--max-age=5s")
    namespace.kubectl("delete", "pod", "web", "--force")
    watched.becomes("not ready: web: the last success was ", "--ready", "--max-age=3s")
    assert watched.ask("health", "--startup") == (0, "started")
    namespace.create_pod("web")
    watched.becomes("ready", "--ready", "--max-age=3s", timeout=30)


def test_an_object_that_may_be_missing_is_no_failure(watch: Watch, web: ServiceAccount) -> None:
    watched = watch("@on-missing remove kubectl get pod other -o name > other", account=web)
    watched.becomes("started", "--startup")
    watched.becomes("ready", "--ready")
    gone = watched.status("other")
    assert (gone["state"], gone["bytes"], gone["lastError"]) == ("ok", None, None)


def test_a_stopped_supervisor_is_not_alive_within_half_a_minute(watch: Watch) -> None:
    watched = watch("@every 1s jq -n 1 > one")
    watched.becomes("ready", "--ready")
    watched.sidecar.send(signal.SIGSTOP)
    for probe, line in {"--startup": "not started", "--ready": "not ready", "": "not alive"}.items():
        words = [probe] * bool(probe)
        text = watched.becomes(f"{line}: no heartbeat for ", *words, timeout=35)
        assert text.endswith("; there is one every 10s")
    code, table = watched.ask("status")
    assert (code, table.startswith("not alive: no heartbeat for ")) == (0, True)
    watched.sidecar.send(signal.SIGCONT)
    watched.becomes("alive", timeout=5)
    watched.becomes("ready", "--ready", timeout=5)


def test_the_document_of_a_dead_process_is_no_life(watch: Watch, tmp_path: Path) -> None:
    public = tmp_path / "status.json"
    watched = watch("jq -n 1 > one", f"--status-file={public}")
    watched.becomes("started", "--startup")
    assert watched.ask("health", f"--status-file={public}") == (0, "alive")
    os.kill(watched.sidecar.pid, signal.SIGKILL)
    watched.sidecar.wait()
    ended = f"not alive: process {watched.sidecar.pid}, which wrote "
    watched.becomes(ended)
    assert watched.ask("health", f"--status-file={public}") == (1, f"{ended}{public}, has ended")


def test_an_orderly_end_leaves_only_the_document_for_the_app(watch: Watch, tmp_path: Path) -> None:
    public = tmp_path / "status.json"
    watched = watch("jq -n 1 > one", f"--status-file={public}")
    watched.becomes("started", "--startup")
    assert watched.sidecar.stop() == 0
    watched.becomes(f"not alive: there is no status document: looked for {watch.directory}/kubectl-sidecar-")
    assert json.loads(public.read_text())["tasks"][0]["state"] == "ok"
    assert list(watch.directory.iterdir()) == []


def test_another_container_reads_the_public_document(watch: Watch, tmp_path: Path) -> None:
    public = tmp_path / "status.json"
    watched = watch("jq -n 1 > one", f"--status-file={public}")
    watched.becomes("started", "--startup")
    elsewhere = Isolation(pid_1=True)
    assert watched.ask("health", f"--status-file={public}", isolation=elsewhere) == (0, "alive")
    assert watched.ask("status", f"--status-file={public}", isolation=elsewhere)[0] == 0
    # Another container has another mount namespace: what is private to this one is not its own.
    code, text = watched.ask("health", isolation=elsewhere)
    assert (code, text.startswith("not alive: there is no status document: looked for ")) == (1, True)


def test_two_in_one_pod_do_not_meet(watch: Watch) -> None:
    first = watch("jq -n 1 > one")
    other = watch("jq -n 2 > two", isolation=Isolation(pid_1=True))
    other.sidecar.wait_for_output("two")
    first.becomes("started", "--startup")
    assert first.status("one")["state"] == "ok"
    assert len(list(watch.directory.iterdir())) == 2
    assert other.sidecar.stop() == 0
    assert first.ask("health") == (0, "alive")


def test_of_two_in_one_container_the_first_is_asked(watch: Watch, tmp_path: Path) -> None:
    public = tmp_path / "second.json"
    first = watch("jq -n 1 > one")
    first.becomes("started", "--startup")
    second = watch("jq -n 2 > two", f"--status-file={public}")
    second.sidecar.wait_for_output("two")
    assert first.status("one")["state"] == "ok"
    second.becomes("started", "--startup", f"--status-file={public}")  # written soon after the output
    assert second.sidecar.stop() == 0
    assert first.ask("health") == (0, "alive")


def test_a_temporary_directory_may_be_a_symlink(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(watch.directory)
    watch.directory = tmp_path / "link"
    watch("jq -n 1 > one").becomes("ready", "--ready")


def test_a_status_file_that_cannot_be_written_does_not_fail_the_probes(watch: Watch, tmp_path: Path) -> None:
    public = tmp_path / "missing" / "status.json"
    watched = watch("@every 1s jq -n 1 > one", f"--status-file={public}")
    watched.becomes("ready", "--ready")
    assert watched.ask("health") == (0, "alive")
    (line,) = watched.sidecar.log_lines("no status file")
    assert line.endswith(f"no status file: cannot write {public}: No such file or directory (missing)")
