"""A holon's place among holons, as all of its nodes see it; and which node of a child links with the parent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.holarchy import Chain, HolonIdentity, repeated
from holon.engine import claims, holarchy, links, pins
from holon.engine.holarchy import Holarchy
from holon.engine.links import LINK_MS
from holon.engine.pins import own_id
from holon.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    StoreUnavailable,
    Unavailable,
)
from holon.ports import Put, StoreSettings
from holon.storage.memory import MemoryStorage
from holon.storage.sqlite import SqliteStorage
from holon.uplink import books, tenure
from holon.uplink.books import Books, Delegation, origin_key
from holon.uplink.tenure import LEASE_MS, Tenure, TenureLost


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage(StoreSettings("n1"), clock) as store:
        yield store


def child(epoch: int, instance: str) -> HolonIdentity:
    return HolonIdentity("below", epoch, instance)


async def test_all_nodes_of_a_holon_have_its_one_id(store: MemoryStorage) -> None:
    ids = await asyncio.gather(*(own_id(store) for _ in range(5)))
    assert len(set(ids)) == 1


def test_a_chain_that_comes_round_is_found() -> None:
    assert repeated(("a", "b", "c")) is None
    assert repeated(("a", "b", "a")) == "a"


async def test_a_child_that_is_linked_at_one_node_is_linked_for_all_until_that_node_is_gone(
    store: MemoryStorage, clock: ManualClock
) -> None:
    one, other = Holarchy(store, "us", 8), Holarchy(store, "us", 8)
    await one.admit("w", child(1, "a"))
    with pytest.raises(Unavailable, match="another process"):
        await other.admit("w", child(2, "b"))
    # Its own process may come to either.
    await other.admit("w", child(1, "a"))
    clock.advance(LINK_MS)
    await other.admit("w", child(2, "b"))


async def test_a_child_that_has_left_makes_way_at_once(store: MemoryStorage) -> None:
    one, other = Holarchy(store, "us", 8), Holarchy(store, "us", 8)
    first = child(1, "a")
    await one.admit("w", first)
    await one.left("w", first)
    await other.admit("w", child(2, "b"))
    assert (one.below, other.below) == ((), ("below",))


async def test_a_child_whose_stream_is_cancelled_makes_way_too(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteStorage(tmp_path / "holon.db", StoreSettings("n1"), clock) as store:
        ours, first = Holarchy(store, "us", 8), child(1, "a")
        await ours.admit("w", first)

        async def end() -> None:
            # As a stream that is cancelled while the end of its session is stored.
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await store.document("any", "any")
            await ours.left("w", first)

        ending = asyncio.create_task(end())
        await asyncio.wait((ending,))
        assert ending.cancelled()
        await ours.admit("w", child(2, "b"))


async def test_a_child_that_leaves_while_its_link_is_being_renewed_makes_way_too(
    store: MemoryStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, first, put = Holarchy(store, "us", 8), child(1, "a"), store.put_documents
    await ours.admit("w", first)

    async def slower(kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        monkeypatch.undo()
        versions = await put(kind, puts)
        await ours.left("w", first)
        return versions

    monkeypatch.setattr(store, "put_documents", slower)
    running = asyncio.create_task(ours.run())
    async with asyncio.timeout(10):
        while ours.below or await store.document(links.LINKS, "w"):  # noqa: ASYNC110  nothing tells it
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait((running,))
    await ours.admit("w", child(2, "b"))
    # What it has from now on is not taken back by who renews late.
    with pytest.raises(Unavailable, match="another process"):
        await Holarchy(store, "us", 8).admit("w", child(3, "c"))


async def test_the_links_of_all_children_are_renewed_in_one_call_and_later_when_that_is_refused(
    store: MemoryStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holarchy, "_RENEW_S", 0.001)
    ours, put, asked = Holarchy(store, "us", 8), store.put_documents, 0
    for worker_id in ("v", "w"):
        await ours.admit(worker_id, HolonIdentity(f"below-{worker_id}", 1, "a"))
    again = asyncio.Event()

    async def refuses(kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ResourceExhausted("there are too many", code="TOO_MANY_DOCUMENTS")
        versions = await put(kind, puts)
        if len(puts) == 2 and None not in versions:
            again.set()
        return versions

    monkeypatch.setattr(store, "put_documents", refuses)
    clock.advance(LINK_MS - 1)
    running = asyncio.create_task(ours.run())
    await asyncio.wait_for(again.wait(), 10)
    running.cancel()
    await asyncio.wait((running,))
    clock.advance(LINK_MS - 1)
    assert {one.key for one in await store.documents(links.LINKS)} == {"v", "w"}


async def test_a_link_that_ran_out_while_its_node_stood_still_is_noted_again(
    store: MemoryStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holarchy, "_RENEW_S", 0.001)
    ours = Holarchy(store, "us", 8)
    await ours.admit("w", child(1, "a"))
    clock.advance(LINK_MS)
    assert not await store.documents(links.LINKS)
    running = asyncio.create_task(ours.run())
    async with asyncio.timeout(10):
        while not await store.documents(links.LINKS):  # noqa: ASYNC110  nothing tells it
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait((running,))
    with pytest.raises(Unavailable, match="another process"):
        await Holarchy(store, "us", 8).admit("w", child(2, "b"))


async def test_one_whose_copy_has_linked_meanwhile_is_told_how_it_is_let_in_again(store: MemoryStorage) -> None:
    ours = Holarchy(store, "us", 8)
    for one in (child(1, "ours"), child(2, "a copy")):
        await ours.admit("w", one)
        await ours.left("w", one)
    with pytest.raises(Aborted, match="holon uplink accept w` at its parent"):
        await ours.admit("w", child(2, "ours"))
    assert await ours.accept("w") == "below"
    await ours.admit("w", child(2, "ours"))
    assert ours.below == ("below",)


async def test_a_holon_belongs_to_the_worker_that_it_came_as_first_at_every_node(
    store: MemoryStorage, clock: ManualClock
) -> None:
    one, other = Holarchy(store, "us", 8), Holarchy(store, "us", 8)
    first = child(1, "a")
    await one.admit("w", first)
    for away in (False, True):
        if away:
            await one.left("w", first)
            clock.advance(LINK_MS)
        with pytest.raises(PermissionDenied, match=r"workers\.toml .* to 'w' .*`holon uplink accept w` at its parent"):
            await other.admit("v", child(9, "a"))
    assert await other.accept("w") == "below"
    await other.admit("v", child(2, "b"))
    with pytest.raises(PermissionDenied, match="is worker 'v' at its parent"):
        await one.admit("w", child(3, "a"))
    # It is this one's alone: what the other was before is nobody's, and it may be another holon.
    await one.admit("w", HolonIdentity("another", 1, "a"))


async def test_of_two_workers_that_come_as_one_holon_at_the_same_moment_one_is_let_in(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Holarchy(store, "us", 8), Holarchy(store, "us", 8)
    put = store.put_document

    async def slower(kind: str, *what: Any, **more: Any) -> int | None:
        if kind == links.LINKS:
            monkeypatch.setattr(store, "put_document", put)
            await other.admit("v", child(1, "b"))
        return await put(kind, *what, **more)

    monkeypatch.setattr(store, "put_document", slower)
    with pytest.raises(PermissionDenied, match="is worker 'v' at its parent"):
        await one.admit("w", child(1, "a"))
    assert (one.below, other.below) == ((), ("below",))
    # Nor is it known as that: it may come as the holon that it is.
    await one.admit("w", HolonIdentity("another", 1, "a"))


async def test_pins_from_before_there_were_claims_count_as_ever(store: MemoryStorage) -> None:
    ours = Holarchy(store, "us", 8)
    pin = b'{"holon_id":"below","epoch":1,"instance":"a"}'
    await store.put_document(pins.KIND, pins.child_key("w"), pin, version=0)
    with pytest.raises(PermissionDenied, match="is worker 'w' at its parent"):
        await ours.admit("v", child(2, "b"))
    # Two that took turns: whoever comes first from now on.
    await store.put_document(pins.KIND, pins.child_key("u"), pin, version=0)
    again = child(2, "a")
    await ours.admit("w", again)
    await ours.left("w", again)
    with pytest.raises(PermissionDenied, match="is worker 'w' at its parent"):
        await ours.admit("u", child(3, "b"))
    assert await ours.accept("w") == "below"
    await ours.admit("u", child(3, "b"))


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("ended_by", [StoreUnavailable("away", retry_after=1.0), asyncio.CancelledError()])
async def test_a_holon_that_was_let_in_halfway_as_a_worker_is_claimed_for_that_no_longer_than_needed(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, ended_by: BaseException, accepted: bool
) -> None:
    ours, put = Holarchy(store, "us", 8), store.put_document

    async def ends(kind: str, *what: Any, **more: Any) -> int | None:
        if kind == pins.KIND:
            raise ended_by
        return await put(kind, *what, **more)

    monkeypatch.setattr(store, "put_document", ends)
    with pytest.raises(type(ended_by)):
        await ours.admit("w", child(1, "a"))
    monkeypatch.undo()
    # No other worker can be it, unless this one is somebody else; who comes next needs not wait.
    with pytest.raises(PermissionDenied, match="is worker 'w' at its parent"):
        await ours.admit("v", child(2, "b"))
    if accepted:
        assert await ours.accept("w") == "below"
    else:
        await ours.admit("w", HolonIdentity("another", 1, "b"))
    await ours.admit("v", child(2, "b"))
    claimed = {one.key: one.value for one in await store.documents(claims.KIND)}
    assert claimed == {"below": b"v", **({} if accepted else {"another": b"w"})}


async def test_a_child_that_somebody_is_always_faster_to_link_is_told_to_come_again(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faster(*_: object, **__: object) -> None: ...

    monkeypatch.setattr(store, "put_document", faster)
    with pytest.raises(StoreUnavailable, match="try again"):
        await Holarchy(store, "us", 8).admit("w", child(1, "a"))


@pytest.mark.parametrize("stored", [b"{", b"[]", b"{}", b"\xff"])
async def test_a_pin_that_cannot_be_read_lets_nobody_in_until_the_next_is_accepted(
    store: MemoryStorage, stored: bytes
) -> None:
    for key in (pins.PARENT, pins.child_key("w")):
        await store.put_document(pins.KIND, key, stored, version=0)
    ours = Holarchy(store, "us", 8)
    await ours.recall()
    assert not ours.parent_id
    with pytest.raises(PermissionDenied, match="holon uplink accept w` at its parent"):
        await ours.admit("w", child(1, "a"))
    with pytest.raises(PermissionDenied, match="holon uplink accept` at this child"):
        await ours.serve(Chain(("parent",)))
    assert (await ours.accept("w"), await ours.accept("")) == ("unknown", "unknown")
    await ours.admit("w", child(1, "a"))
    await ours.serve(Chain(("parent",)))
    assert (ours.below, ours.above) == (("below",), ("parent",))


@pytest.mark.parametrize("worker_id", ["w", "x" * 100_000, "\N{PERSON WITH BALL}" * 253])
async def test_of_a_worker_that_never_was_nobody_is_forgotten(store: MemoryStorage, worker_id: str) -> None:
    with pytest.raises(NotFound, match="no holon is known"):
        await Holarchy(store, "us", 8).accept(worker_id)


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


async def test_who_is_above_is_known_before_the_parent_has_come_back(store: MemoryStorage) -> None:
    await Holarchy(store, "us", 8).serve(Chain(("root", "parent"), 4))
    again = Holarchy(store, "us", 8)
    await again.recall()
    assert (again.above, again.parent_id, again.max_depth) == (("root", "parent"), "parent", 4)
    for below in ("root", "parent", "us"):
        with pytest.raises(FailedPrecondition, match=below):
            await again.admit("w", HolonIdentity("below", 1, "i", (below,)))
    with pytest.raises(PermissionDenied, match="accept"):
        await again.serve(Chain(("another",)))
    assert await again.accept("") == "parent"
    await again.serve(Chain(("another",)))
    assert again.above == ("another",)


async def test_where_the_next_parent_is_to_be_taken_no_node_knows_who_was_above(store: MemoryStorage) -> None:
    one, other = Holarchy(store, "us", 8), Holarchy(store, "us", 8)
    await one.serve(Chain(("root", "parent"), 4))
    await other.recall()
    await one.accept("")
    for node in (one, other):
        await node.recall()
        assert (node.above, node.parent_id, node.max_depth) == ((), "", 8)
    await other.admit("w", HolonIdentity("parent", 1, "i"))


async def test_who_has_no_parent_any_more_has_nobody_above(store: MemoryStorage) -> None:
    await Holarchy(store, "us", 8).serve(Chain(("root", "parent"), 4))
    now = Holarchy(store, "us", 8, has_parent=False)
    await now.recall()
    assert (now.above, now.parent_id, now.max_depth) == ((), "", 8)
    # The circle can be turned round.
    await now.admit("w", HolonIdentity("parent", 1, "i"))


@pytest.mark.parametrize("hint_is_lost", [False, True])
async def test_every_node_of_a_holon_knows_who_is_above(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, hint_is_lost: bool
) -> None:
    monkeypatch.setattr(holarchy, "_RENEW_S", 0.01 if hint_is_lost else 60)
    one, other = Holarchy(store, "us", 8), Holarchy(store, "us", 8)
    heard = asyncio.Event()
    other.on_change(heard.set)
    running = asyncio.create_task(other.run())
    await asyncio.sleep(0)
    await one.serve(Chain(("root",)))
    if not hint_is_lost:
        other.hints.changed(frozenset({"holons"}))
    await asyncio.wait_for(heard.wait(), 10)
    assert other.above == ("root",)
    running.cancel()
    await asyncio.wait((running,))


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
