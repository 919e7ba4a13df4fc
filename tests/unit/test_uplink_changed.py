"""What tells the uplink of changes: heard a moment after the first of them, once, and at a given time without any."""

import asyncio

import pytest

from holon.uplink.changed import Changed

GUARD = 30.0


async def test_what_is_set_meanwhile_is_heard_with_it_and_what_is_set_later_once_more() -> None:
    changed, loop = Changed(0.01), asyncio.get_running_loop()
    never = loop.time() + 3600
    began = loop.time()
    changed.set()
    async with asyncio.timeout(GUARD):
        hearing = asyncio.create_task(changed.heard(never, 0))
        await asyncio.sleep(0)
        changed.set()
        await hearing
        assert loop.time() - began > 0.009
        again = asyncio.create_task(changed.heard(never, 0))
        await asyncio.sleep(0)
        changed.set()
        await again


async def test_it_is_heard_by_a_time_without_any_and_not_before_one_with_some() -> None:
    changed, loop = Changed(0), asyncio.get_running_loop()
    async with asyncio.timeout(GUARD):
        await changed.heard(loop.time() + 0.005, 0)
        began = loop.time()
        changed.set()
        await changed.heard(began + 3600, began + 0.01)
        assert loop.time() - began > 0.009


async def test_what_was_not_heard_for_a_cancel_is_heard_by_the_next() -> None:
    changed, never = Changed(0), asyncio.get_running_loop().time() + 3600
    hearing = asyncio.create_task(changed.heard(never, 0))
    await asyncio.sleep(0)
    changed.set()
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    async with asyncio.timeout(GUARD):
        await changed.heard(never, 0)
