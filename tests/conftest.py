"""What every test can ask for: the pinned tools, a control plane, a namespace, the installed program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.harness import gobuild, signals
from tests.harness import tools as pinned
from tests.harness.access import Namespace
from tests.harness.control_plane import ControlPlane, Programs
from tests.harness.control_plane import control_plane as running_control_plane
from tests.harness.network import Network
from tests.harness.progress import Unavailable
from tests.harness.sidecar import Launcher


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", choices=["all"], help="a part that cannot be run is a failure, not a skip")


def pytest_configure() -> None:
    signals.set_defaults()
    signals.hang_up_children()
    # So that what is running is torn down, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent / "unit" in item.path.parents:
            item.add_marker(pytest.mark.unit)
    # The fast ones first, and before there is a control plane among our children.
    items.sort(key=lambda item: "unit" not in item.keywords)


def unavailable(config: pytest.Config, reason: object) -> NoReturn:
    """Say what cannot be run and why: a skip, or a failure where everything is required."""
    if config.getoption("--require"):
        pytest.fail(f"could not run: {reason}", pytrace=False)
    pytest.skip(f"could not run: {reason}")


@pytest.fixture(scope="session")
def tools(pytestconfig: pytest.Config) -> Path:
    """The directory of the pinned kubectl and jq, which is put in front of PATH."""
    try:
        directory = pinned.tools()
    except Unavailable as error:
        unavailable(pytestconfig, error)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
    return directory


@pytest.fixture(scope="session")
def network(pytestconfig: pytest.Config, tools: Path) -> Iterator[Network]:  # noqa: ARG001 - fetched before
    """Where the control plane listens; once it is asked for, all that is started later is in it."""
    try:
        gobuild.program("etcd")
        gobuild.program("kube-apiserver")
    except Unavailable as error:
        unavailable(pytestconfig, error)
    own = Network()
    if not own.own and pytestconfig.getoption("--require"):
        pytest.fail("could not make a network namespace: run as root", pytrace=False)
    yield own
    own.leave()


@pytest.fixture(scope="session")
def control_plane(
    tools: Path, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A real etcd and kube-apiserver, one for the whole run."""
    programs = Programs(gobuild.program("etcd"), gobuild.program("kube-apiserver"), tools / "kubectl")
    with running_control_plane(tmp_path_factory.mktemp("control-plane"), network, programs) as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane, tmp_path: Path) -> Namespace:
    """A fresh namespace."""
    return Namespace(control_plane, tmp_path)


@pytest.fixture
def sidecar(pytestconfig: pytest.Config, tools: Path, tmp_path: Path) -> Iterator[Launcher]:
    """Starts the installed program, as in sidecar("kubectl get ... > file", account=...), and ends it."""
    program = Path(sys.executable).with_name("kubectl-sidecar")
    if not program.exists():
        unavailable(pytestconfig, f"{program} is not there: use scripts/test, which installs it")
    launcher = Launcher(program, tools, tmp_path)
    yield launcher
    launcher.destroy_all()
