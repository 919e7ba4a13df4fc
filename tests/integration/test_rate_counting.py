"""Rate limits: how calls are counted in the store, and what becomes of them without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from holon.clock import ManualClock
from holon.engine.rates import MAX_FLIGHT, Call, RateLimits, Rates
from holon.errors import ResourceExhausted, StoreUnavailable
from holon.ports import Count, Counted
from holon.storage.memory import MemoryStorage


class Hurt(MemoryStorage):
    """A store that counts, is away, or does not answer, as the test says."""

    def __init__(self) -> None:
        super().__init__(clock=ManualClock())
        self.calls: list[int] = []
        self.away = False
        self.mute = False
        self.asked = asyncio.Event()

    async def count(self, items: Sequence[Count]) -> Sequence[Counted]:
        self.calls.append(len(items))
        self.asked.set()
        if self.mute:
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("away")
        return await super().count(items)


@asynccontextmanager
async def counting(store: Hurt, limit: int = 3) -> AsyncIterator[RateLimits]:
    async with store:
        limits = RateLimits(store, Rates(limit))
        running = asyncio.create_task(limits.run())
        try:
            yield limits
        finally:
            running.cancel()
            await asyncio.wait((running,))


async def test_calls_of_one_moment_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.engine.rates.PATIENCE_S", 20)
    store = Hurt()
    async with counting(store, 1_000) as limits:
        await asyncio.gather(*(limits.admit(Call.HTTP, f"client-{n % 7}") for n in range(2 * MAX_FLIGHT + 10)))
    assert store.calls == [MAX_FLIGHT, MAX_FLIGHT, 10]


async def test_while_the_store_is_away_calls_go_on_and_are_counted_as_such() -> None:
    store = Hurt()
    async with counting(store) as limits:
        store.away = True
        for _ in range(10):
            await limits.admit(Call.GRPC, "ann")
        assert limits.metrics.uncounted.values == {("client", "grpc"): 10}
        store.away = False
        for _ in range(3):
            await limits.admit(Call.GRPC, "ann")
        with pytest.raises(ResourceExhausted):
            await limits.admit(Call.GRPC, "ann")


async def test_a_store_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.engine.rates.PATIENCE_S", 0.02)
    store = Hurt()
    store.mute = True
    async with counting(store) as limits:
        for _ in range(100):
            await limits.admit(Call.FRAME, "w1")
        # The first waits to be counted, and perhaps the one after it; none of the others.
        assert len(limits._waiting) <= 1
        assert store.calls == [1]
        assert limits.metrics.uncounted.values == {("worker", "frame"): 100}


async def test_who_waits_when_counting_ends_goes_on() -> None:
    store = Hurt()
    store.mute = True
    async with counting(store) as limits:
        waiting = asyncio.create_task(limits.admit(Call.HTTP, "ann"))
        await store.asked.wait()
    await waiting
