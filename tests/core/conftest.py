"""A store whose writes do as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.world import World
from tests.core.faults import Faults, FaultyBackend


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def world(tmp_path: Path, faults: Faults) -> AsyncIterator[World]:
    world = World(FaultyBackend(faults), tmp_path, {})
    await world.open()
    yield world
    await world.close()
