"""scripts/demo shows what it says, in both kinds of cluster, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import gobuild
from tests.harness.control_plane import ControlPlane
from tests.harness.processes import Process, marked
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parents[2] / "scripts/demo"
POD = "this-pod-status.json"
FIRST = [POD, "this-node-status.json", POD]
OUTAGE = r" +an outage +the API server was away for \d+ s; the files stayed as they were, and follow again\n"
SEEN = (
    r" +@watch +from a request that changes the Pod to the changed file: \d+ ms, \d+ ms, \d+ ms\n"
    r" +permissions +the forbidden task named its missing rule, and `rbac` wrote it\n{}"
    r" +the end +exit status 0, \d+ ms after SIGTERM\n"
)


@pytest.fixture
def controller_manager(control_plane: ControlPlane, tmp_path: Path) -> Iterator[None]:
    """What empties a namespace that is deleted."""
    kubeconfig = control_plane.kubeconfig_for("controller-manager", "/CN=system:kube-controller-manager")
    key = control_plane.signing_key
    options = [
        "--leader-elect=false",
        "--use-service-account-credentials",
        "--controllers=*,-node-ipam-controller",
    ]
    options += [f"--kubeconfig={kubeconfig}", f"--service-account-private-key-file={key}"]
    process = Process([gobuild.program("kube-controller-manager"), *options], tmp_path / "log")
    yield
    process.stop()


def demo(tmp_path: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Start it with everything it leaves to be found under tmp_path, or by the mark in its environment."""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "MARK": str(tmp_path), **env}
    return subprocess.Popen(
        [DEMO, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_nothing_left(tmp_path: Path) -> None:
    def none_left() -> None:
        left = marked(f"MARK={tmp_path}")
        assert not left, left

    wait_until(none_left)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.usefixtures("network")
def test_the_demo_shows_all_that_it_says_at_the_end(tmp_path: Path) -> None:
    with demo(tmp_path) as run:
        printed = run.communicate()[0]
    assert run.returncode == 0, printed
    assert re.findall(r"^--- (.*)", printed, re.MULTILINE) == [*FIRST, "settings.json", POD]
    last = printed.rpartition(f"--- {POD}\n")[2]
    assert last.startswith('{\n  "message": "a change after the outage"')
    seen = printed.partition("==> what you have seen:\n")[2]
    assert re.match(SEEN.format(OUTAGE), seen), seen
    assert_nothing_left(tmp_path)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize(
    "moment", ["starting etcd", "creating the namespace", "as an account", "stopping the API server"]
)
def test_a_demo_that_is_interrupted_leaves_nothing_behind(moment: str, tmp_path: Path) -> None:
    with demo(tmp_path) as run:
        assert run.stdout
        assert any(moment in line for line in run.stdout), f"it ended before {moment!r}"
        run.send_signal(signal.SIGINT)
        printed = run.stdout.read()
    assert run.returncode == 0, printed
    assert "Traceback" not in printed
    assert_nothing_left(tmp_path)


@pytest.mark.usefixtures("controller_manager")
def test_the_demo_in_the_users_own_cluster_takes_everything_out_again(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    control_plane.create_node("existing-node")
    kinds = "namespaces,nodes,clusterroles,clusterrolebindings"
    before = control_plane.kubectl("get", kinds, "--output=name")
    with demo(tmp_path, "--context", "test", KUBECONFIG=str(control_plane.admin_kubeconfig)) as run:
        printed = run.communicate()[0]
    assert run.returncode == 0, printed
    assert re.search(SEEN.format(""), printed), printed
    assert control_plane.kubectl("get", kinds, "--output=name") == before
    assert_nothing_left(tmp_path)
