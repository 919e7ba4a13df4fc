"""Slots: what a node that drains does not ask for any more."""

from __future__ import annotations

import asyncio
from typing import Any

from holon.engine.slots import Slots

GUARD = 10.0


async def test_i10_once_closed_nothing_is_asked_for_however_many_slots_become_free() -> None:
    slots = Slots(2)
    nothing: Any = None
    with slots.wanting(1) as wanted:
        wanted.claims = [nothing]
    assert await slots.free() == 1
    slots.close()
    assert (slots.reserve(2), slots.taken) == (0, 1)
    waiting = asyncio.create_task(slots.free())
    await asyncio.sleep(0)
    slots.done()
    async with asyncio.timeout(GUARD):
        await slots.idle()
    assert not waiting.done()
    assert slots.reserve(2) == 0
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_what_is_claimed_already_still_runs() -> None:
    slots = Slots(2)
    claim: Any = object()
    with slots.wanting(2) as wanted:
        slots.close()
        wanted.claims = [claim]
    idle = asyncio.create_task(slots.idle())
    async with asyncio.timeout(GUARD):
        assert await slots.take() is claim
        assert not idle.done()
        slots.done()
        await idle
