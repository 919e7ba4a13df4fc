"""A store in memory, the clock that it goes by, and files that wait for no disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from holon.clock import ManualClock
from holon.ports import StoreSettings
from holon.storage.memory import MemoryStorage

# Where memory holds the files, if there is such a place.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="holon-unit-", dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(in_memory: Path) -> Path:
    """A folder of each test's own, in place of that on a disk."""
    folder = in_memory / str(next(NUMBERS))
    folder.mkdir()
    return folder


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage(StoreSettings("n1"), clock) as store:
        yield store
