"""One node for all tests, with the images that example.yaml names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.harness import gobuild, packages
from tests.harness.control_plane import ControlPlane, Programs, control_plane
from tests.harness.network import Network
from tests.harness.progress import Unavailable
from tests.image.builder import builder
from tests.node.images import image_files
from tests.node.node import BUILT, CNI_PLUGINS, PROGRAMS, Node, ServiceNetwork, node

Record = dict[str, str]
RECORD = pytest.StashKey[Record]()
ENFORCE = "pod-security.kubernetes.io/enforce"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.node)
            # The first one waits for everything to be built.
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def images(
    pytestconfig: pytest.Config, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    try:
        with network.outside():
            packages.need(PROGRAMS, "the node")
            if not CNI_PLUGINS.exists():
                packages.install(["containernetworking-plugins"], "the node needs CNI plugins")
            for name in BUILT:
                gobuild.program(name)
            return image_files(builder(), tmp_path_factory.mktemp("images"))
    except Unavailable as error:
        unavailable(pytestconfig, error)


@pytest.fixture(scope="session")
def plane(
    images: list[Path],  # noqa: ARG001 - built before there is no outer network
    tools: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ControlPlane]:
    """A control plane of the node's own, in a network of its own: it is stopped and started by the tests."""
    programs = Programs(gobuild.program("etcd"), gobuild.program("kube-apiserver"), tools / "kubectl")
    network = ServiceNetwork()
    try:
        with control_plane(tmp_path_factory.mktemp("node-plane"), network, programs) as running:
            yield running
    finally:
        network.leave()


@pytest.fixture(scope="session")
def cluster(
    images: list[Path], plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("node"), plane, images) as running:
        yield running


@pytest.fixture(scope="module")
def restricted(plane: ControlPlane, cluster: Node) -> Iterator[None]:  # noqa: ARG001 - it has nodes
    """The namespace refuses every Pod that could do more than it needs."""
    plane.kubectl("label", "namespace", "default", f"{ENFORCE}=restricted")
    yield
    plane.kubectl("label", "namespace", "default", f"{ENFORCE}-")


@pytest.fixture
def record(pytestconfig: pytest.Config) -> Record:
    """What is measured; it is shown at the end."""
    return pytestconfig.stash.setdefault(RECORD, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, value in config.stash.get(RECORD, {}).items():
        terminalreporter.write_line(f"measured: {what}: {value}")
