"""Hints of a store, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from holon.ports import Hint, Storage


def hints_of(storage: Storage) -> AsyncGenerator[Hint, None]:
    """Every hint from now on."""
    told: asyncio.Queue[Hint] = asyncio.Queue()
    hear_no_more = storage.hear(told.put_nowait)

    async def coming() -> AsyncGenerator[Hint, None]:
        try:
            while True:
                yield await told.get()
        finally:
            hear_no_more()

    return coming()
