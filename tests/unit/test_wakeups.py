"""Wakeups: what a hint tells while the store is asked is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from holon.engine.slots import Slots
from holon.engine.wakeups import Wakeups
from holon.ports import Claim, Fired, Hint

GUARD = 10.0
NEVER = 10**15


class Timers:
    """A store that is told of a timer that is due now, while it says that the earliest timer is far away."""

    def __init__(self) -> None:
        self.fired = 0
        self.again = asyncio.Event()
        self._asked = asyncio.Event()
        self._told = asyncio.Event()

    def now(self) -> int:
        return 1

    async def hints(self) -> AsyncIterator[Hint]:
        await self._asked.wait()
        yield Hint(due=1)
        self._told.set()
        await asyncio.Event().wait()

    async def claim(self, want: int) -> Sequence[Claim]:
        return ()

    async def fire(self, limit: int, want: int) -> Fired:
        self.fired += 1
        if self.fired == 1:
            self._asked.set()
            await self._told.wait()
        else:
            self.again.set()
        return Fired(NEVER)


class Deaf:
    """Who watches no job."""

    def changed(self, jobs: frozenset[str]) -> None:
        pass


async def test_a_timer_that_a_hint_tells_of_while_others_are_fired_is_fired_when_it_is_due() -> None:
    store: Any = Timers()
    deaf: Any = Deaf()
    nothing: Any = None
    wakeups = Wakeups(store, Slots(1), nothing, nothing, nothing, deaf, deaf, nothing)
    running = asyncio.create_task(wakeups.run())
    async with asyncio.timeout(GUARD):
        await store.again.wait()
    running.cancel()
    await asyncio.wait([running])
    assert store.fired == 2
