"""What every test of the status can ask for."""

from __future__ import annotations

import pytest

from tests.unit.status.tasks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
