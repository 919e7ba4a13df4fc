"""One node for all attacks of a file: what one of them breaks, the others find broken."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attack.place import Place, a_place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The node, until the end of the file."""
    async with a_place(tmp_path_factory.mktemp("place")) as it:
        yield it
