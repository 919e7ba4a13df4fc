"""Hints of a store, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from holon.ports import Hint, Storage

GUARD = 60.0  # seconds; reached only by a hint that does not come


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


async def heard(hints: AsyncIterator[Hint], wanted: Callable[[Hint], object]) -> Hint:
    """The next hint that says what is wanted; others are passed over."""
    async with asyncio.timeout(GUARD):
        async for hint in hints:
            if wanted(hint):
                return hint
    raise AssertionError("the hints ended")
