"""A store in memory, and the clock that it goes by."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holon.clock import ManualClock
from holon.ports import StoreSettings
from holon.storage.memory import MemoryStorage


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage(StoreSettings("n1"), clock) as store:
        yield store
