"""Which node of a child links with the parent, and what the others may not write meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.errors import (
    StoreUnavailable,
)
from holon.ports import Put
from holon.storage.memory import MemoryStorage
from holon.storage.promises import Promise, Promises
from holon.uplink import books, tenure
from holon.uplink.books import Books
from holon.uplink.delegation import Delegation, origin_key
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
    assert sum("node n1 links with the parent; this one does once" in one.message for one in caplog.records) == 1
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


async def test_who_has_lost_the_link_cannot_write_into_the_books_of_who_has_it(store: MemoryStorage) -> None:
    old, new = Books(store), Books(store)
    await old.write(Delegation("above", "t1", "j1", 1, 1, "l1"))
    (entry,) = await new.load()
    stale = await old.find("t1")
    assert stale is not None
    entry.attempt, entry.lease_id = 2, "l2"
    await new.write(entry)
    with pytest.raises(TenureLost):
        await old.write(stale)
    assert await old.find("t1") == entry
    await new.forget(entry)
    assert await old.find("t1") is None


async def test_what_is_settled_is_deleted_soon_and_a_task_that_comes_again_before_that_is_noted(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "GATHER_S", 0.001)
    noted = Books(store)
    entries = [Delegation("above", f"t{n}", f"j{n}", 1, 1, "l") for n in range(4)]
    for entry in entries:
        await noted.write(entry)
        noted.settle(entry)
        assert await noted.find(entry.task_id) is None
    again = Delegation("above", "t0", "j5", 2, 2, "m")
    await noted.write(again)
    assert await noted.find("t0") == again
    put, asked = store.put_documents, 0

    async def comes_again(kind: str, puts: Sequence[Put]) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailable("away", retry_after=0.001)
        writing.append(asyncio.create_task(noted.write(Delegation("above", "t1", "j6", 2, 2, "m"))))
        await asyncio.sleep(0)
        return await put(kind, puts)

    writing: list[asyncio.Task[None]] = []
    monkeypatch.setattr(store, "put_documents", comes_again)
    running = asyncio.create_task(noted.run())
    async with asyncio.timeout(10):
        while not writing or not writing[0].done():  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
    await writing[0]
    running.cancel()
    # A node that starts finds those that are not settled, and no others.
    assert {one.task_id: one.job_id for one in await Books(store).load()} == {"t0": "j5", "t1": "j6"}


def test_the_origin_of_a_job_is_its_task_and_generation_and_the_run_after_a_withdrawal() -> None:
    keys = {origin_key(*origin) for origin in (("t", 1, 0), ("t", 2, 0), ("t", 1, 3), ("u", 1, 0))}
    assert len(keys) == 4
    assert origin_key("t", 1, 0) == origin_key("t", 1, 0)


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


@pytest.mark.usefixtures("hasty")
async def test_a_node_to_which_the_store_answers_only_when_its_lease_has_run_out_goes_on_to_renew_it(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "LEASE_MS", 1)
    store = Late()
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
