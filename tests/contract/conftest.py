"""The contract suite's fixtures: one world per test, on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.backends import (
    BACKENDS,
    CLUSTERED,
    DURABLE,
    POSTGRES,
    REDIS,
    SEALED_REDIS,
    UNSEALED,
    Backend,
)
from tests.contract.world import Factory, World


@pytest.fixture(scope="session", autouse=True)
def _servers() -> Iterator[None]:
    yield
    REDIS.close()
    CLUSTERED.close()
    SEALED_REDIS.close()
    POSTGRES.close()


async def _factory(request: pytest.FixtureRequest, place: Path) -> AsyncIterator[Factory]:
    backend: Backend = request.param
    worlds: list[World] = []

    async def build(**settings: int) -> World:
        home = place / f"world-{len(worlds)}"
        home.mkdir()
        world = World(backend, home, settings)
        worlds.append(world)
        await world.open()
        return world

    yield build
    for world in worlds:
        await world.close()


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Factory]:
    """Builds stores with settings of the test's own: `world = await store(lease=1_000)`."""
    async for factory in _factory(request, tmp_path):
        yield factory


@pytest.fixture
async def world(store: Factory) -> World:
    """A store with the default settings."""
    return await store()


@pytest.fixture(params=DURABLE, ids=lambda backend: backend.name)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Factory]:
    """As `store`, on the backends that outlive their process: what it builds can `restart`."""
    async for factory in _factory(request, tmp_path):
        yield factory


@pytest.fixture(params=UNSEALED, ids=lambda backend: backend.name)
async def unsealed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Factory]:
    """As `durable`, for tests that take long: not on sealed stores as well."""
    async for factory in _factory(request, tmp_path):
        yield factory
