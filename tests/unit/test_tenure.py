"""Which node of a child links with the parent, and what the others may not write meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.errors import StoreUnavailable
from holon.ports import Document
from holon.storage.memory import MemoryStorage
from holon.storage.promises import Promise, Promises
from holon.uplink import tenure
from holon.uplink.tenure import LEASE_MS, Tenure, TenureLost


async def test_one_node_links_and_each_taking_raises_the_epoch(
    store: MemoryStorage, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = (Tenure(store, clock.now_ms, name, name) for name in ("n1", "n2"))
    await first.take()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert sum("node n1 has the parent link; this node takes it when" in one.message for one in caplog.records) == 1
    await first.give_up()
    second.hints.changed(frozenset({"uplink"}))
    await asyncio.wait_for(waiting, 10)
    assert (first.epoch, second.epoch) == (1, 2)
    # The same node, started again, needs not wait; another, until the lease has run out.
    again = Tenure(store, clock.now_ms, "n2", "another process")
    await again.take()
    assert again.epoch == 3
    clock.advance(LEASE_MS)
    await first.take()
    assert first.epoch == 4


async def test_a_node_that_cannot_look_whose_the_lease_is_says_so_once_and_takes_it_when_the_store_is_back(
    store: MemoryStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, failures = store.document, 3

    async def away_at_first(*place: str) -> Document | None:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("away", retry_after=0.001)
        return await read(*place)

    monkeypatch.setattr(store, "document", away_at_first)
    taken = Tenure(store, clock.now_ms, "n1", "n1")
    await asyncio.wait_for(taken.take(), 10)
    assert (taken.epoch, failures) == (1, 0)
    assert caplog.messages == ["the lease on the parent link cannot be read: away"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node renews the lease all the time, and soon leaves it to others."""
    for name in ("_RENEW_S", "UNREACHED_S", "UNREACHED_LONGEST_S"):
        monkeypatch.setattr(tenure, name, 0.001)


@pytest.mark.usefixtures("hasty")
async def test_a_node_that_does_not_reach_the_parent_leaves_the_lease_to_another(
    store: MemoryStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "LEFT_S", 0.1)
    first, second = (Tenure(store, clock.now_ms, name, name) for name in ("n1", "n2"))
    await first.take()
    with pytest.raises(TenureLost, match="did not reach the parent"):
        await asyncio.wait_for(first.keep(lambda: False, lambda: True), 10)
    # It is free now, but first for the others.
    taking = asyncio.create_task(first.take())
    await asyncio.sleep(0)
    assert not taking.done()
    await asyncio.wait_for(second.take(), 10)
    assert (first.epoch, second.epoch) == (1, 2)
    await second.give_up()
    await asyncio.wait_for(taking, 10)
    assert first.epoch == 3


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("reached", "others"), [(True, True), (False, False)])
async def test_a_node_keeps_the_lease_while_it_reaches_the_parent_or_is_alone(
    store: MemoryStorage, clock: ManualClock, reached: bool, others: bool
) -> None:
    asked = 0

    def counted(answer: bool) -> bool:
        nonlocal asked
        asked += 1
        return answer

    kept = Tenure(store, clock.now_ms, "n1", "n1")
    await kept.take()
    keeping = asyncio.create_task(kept.keep(lambda: counted(reached), lambda: counted(others)))
    while asked < 10 and not keeping.done():  # noqa: ASYNC110  nothing tells it
        await asyncio.sleep(0.001)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait((keeping,))


async def test_a_lease_on_the_link_that_cannot_be_read_is_taken_with_a_higher_epoch(store: MemoryStorage) -> None:
    for _ in range(3):
        taken = Tenure(store, store.now, "n1", "i")
        await taken.take()
    (lease,) = await store.documents("uplink")
    for nonsense in (b"\xff", b"[]", b'{"epoch":null,"node":1,"until":[]}'):
        (lease,) = await store.documents("uplink")
        await store.put_document("uplink", "lease", nonsense, version=lease.version)
        before, taken = taken.epoch, Tenure(store, store.now, "n2", "j")
        await taken.take()
        assert taken.epoch > before


class Late(MemoryStorage):
    """A store of whose next write of a document the reply comes when somebody says so."""

    def __init__(self) -> None:
        super().__init__()
        self.promises = Promises()
        self.reply: Promise[None] | None = None
        self.writes = 0

    async def put_document(self, *given: Any, **more: Any) -> int | None:
        self.writes += 1
        version = await super().put_document(*given, **more)
        if self.reply is not None:
            await self.promises.kept(self.reply)
        return version


@pytest.fixture
async def late() -> AsyncIterator[Late]:
    async with Late() as store:
        yield store


@pytest.mark.usefixtures("hasty")
async def test_a_node_to_which_the_store_answers_only_when_its_lease_has_run_out_goes_on_to_renew_it(
    clock: ManualClock, late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "LEASE_MS", 1)
    store = late
    first = Tenure(store, clock.now_ms, "n1", "n1")
    await first.take()
    reply: Promise[None] = Promise(loop=asyncio.get_running_loop())
    store.reply = reply
    keeping = asyncio.create_task(first.keep(lambda: True, lambda: True))
    async with asyncio.timeout(10):
        while not keeping.cancelling():  # noqa: ASYNC110  it is the next turn of the loop
            await asyncio.sleep(0)
        monkeypatch.setattr(tenure, "LEASE_MS", LEASE_MS)
        before, store.reply = store.writes, None
        reply.set_result(None)
        while store.writes == before and not keeping.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
    assert keeping.cancelled()
