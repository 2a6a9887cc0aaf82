"""What every test of publishing can ask for, and that none of them leaves anything open."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.publish.publishing import names


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = names(Path("/proc/self/fd"))
    yield
    assert names(Path("/proc/self/fd")) == before


@pytest.fixture(params=["disk", "memory"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on whatever disk there is (ext4, overlayfs, ...), and one on tmpfs."""
    if request.param == "disk":
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)
