"""What all nodes share of tokens, where the keys that the store is sealed with change."""

from __future__ import annotations

import asyncio

from holon.clock import ManualClock
from holon.ports import Document, StoreSettings, place_of
from holon.security.sts.ring import Schedule
from holon.security.sts.state import ENDED, KEYS, RESEAL_EVERY_MS, RING, TokenState
from holon.storage.memory import MemoryStorage
from holon.stores.sealing import Seal, SealBroken

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
LONG = 10**12
GUARD = 10.0


class Store(MemoryStorage):
    """Tells when a look at what nodes share of tokens is over."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(StoreSettings("a"), clock)
        self.looked = asyncio.Event()

    async def documents(self, kind: str) -> list[Document]:
        found = list(await super().documents(kind))
        if kind == ENDED:
            self.looked.set()
        return found


async def look(store: Store, state: TokenState) -> bytes:
    """Have a node look at the store; the key of those two that opens what is there then."""
    store.looked.clear()
    running = asyncio.create_task(state.run())
    async with asyncio.timeout(GUARD):
        await store.looked.wait()
    running.cancel()
    await asyncio.wait((running,))
    document = await store.document(KEYS, RING)
    assert document is not None
    for key in (OLD, NEW):
        try:
            Seal((key,)).open(*place_of(KEYS, RING), document.value)
        except SealBroken:
            continue
        return key
    raise AssertionError("it is sealed with another key")


async def test_a_ring_that_lasts_is_sealed_anew_with_the_key_that_seals_now() -> None:
    clock = ManualClock()
    async with Store(clock) as store:
        seal = Seal((OLD, NEW), clock)
        state = TokenState(store, clock.now_ms, Schedule(LONG, 0, LONG), seal)
        assert await look(store, state) == OLD
        ring = state.ring
        seal.open_with((NEW, OLD))
        seal.seal_with(NEW)
        assert await look(store, state) == NEW
        alone = TokenState(store, clock.now_ms, Schedule(LONG, 0, LONG), Seal((NEW,), clock))
        await look(store, alone)
        assert alone.ring.to_bytes() == ring.to_bytes()


async def test_nodes_that_seal_with_different_keys_for_a_while_do_not_write_against_each_other() -> None:
    clock = ManualClock()
    async with Store(clock) as store:
        one, other = (
            TokenState(store, clock.now_ms, Schedule(LONG, 0, LONG), Seal(keys, clock))
            for keys in ((OLD, NEW), (NEW, OLD))
        )
        assert [await look(store, state) for state in (one, other, one, other, one)] == [OLD, NEW, OLD, OLD, OLD]
        clock.advance(RESEAL_EVERY_MS)
        assert [await look(store, state) for state in (other, one)] == [NEW, OLD]
