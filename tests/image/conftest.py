"""The image, built once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.harness.progress import Unavailable
from tests.image.builder import Builder
from tests.image.builder import builder as the_builder

IMAGE = "localhost/kubectl-sidecar:test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.image)
            # The first one waits for everything to be built.
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def builder(pytestconfig: pytest.Config, tools: Path) -> Builder:  # noqa: ARG001 - puts them on PATH
    try:
        return the_builder()
    except Unavailable as error:
        unavailable(pytestconfig, error)


@pytest.fixture(scope="session")
def context(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builder.context(tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="session", params=["default", "minimal"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def image(builder: Builder, context: Path, target: str) -> str:
    """The ID of the image that was built for a target."""
    return builder.build(context, f"{IMAGE}-{target}", "--target", target).image
