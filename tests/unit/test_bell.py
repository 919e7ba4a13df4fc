"""A bell: heard once, by one, and not lost."""

from __future__ import annotations

import asyncio

import pytest

from holon.wire.bell import Bell


async def turns(n: int = 3) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_it_wakes_who_waits_and_who_comes_later_once() -> None:
    bell = Bell()
    hearing = asyncio.create_task(bell.heard())
    await turns()
    assert not hearing.done()
    bell.ring()
    bell.ring()
    await hearing
    again = asyncio.create_task(bell.heard())
    await turns()
    assert not again.done()
    bell.ring()
    await again
    bell.ring()
    await bell.heard()


async def test_what_rings_as_the_hearing_is_cancelled_is_heard_by_the_next() -> None:
    bell = Bell()
    hearing = asyncio.create_task(bell.heard())
    await turns()
    bell.ring()
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    async with asyncio.timeout(10):
        await bell.heard()
    unheard = asyncio.create_task(bell.heard())
    await turns()
    unheard.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unheard
    bell.ring()
    async with asyncio.timeout(10):
        await bell.heard()
