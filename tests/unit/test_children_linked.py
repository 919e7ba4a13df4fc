"""A child is linked at one node, for all nodes of its parent, until it left or that node is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from holon.clock import ManualClock
from holon.domain.holarchy import HolonIdentity
from holon.engine import holarchy, links
from holon.engine.holarchy import Holarchy
from holon.engine.links import LINK_MS
from holon.errors import (
    ResourceExhausted,
    StoreUnavailable,
    Unavailable,
)
from holon.ports import Put, StoreSettings
from holon.storage.memory import MemoryStorage
from holon.storage.sqlite import SqliteStorage
from tests.unit.holons import child


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
            await store.put_document("any", "any", b"", version=0)
            await ours.left("w", first)

        ending = asyncio.create_task(end())
        await asyncio.wait((ending,))
        assert ending.cancelled()
        # The unlink runs on after its caller was cancelled.
        await asyncio.gather(*ours._unlinking)
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


async def test_a_child_that_somebody_is_always_faster_to_link_is_told_to_come_again(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faster(*_: object, **__: object) -> None: ...

    monkeypatch.setattr(store, "put_document", faster)
    with pytest.raises(StoreUnavailable, match="retry later"):
        await Holarchy(store, "us", 8).admit("w", child(1, "a"))
