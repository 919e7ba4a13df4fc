"""Who is drained: the store keeps it, for the process that it was, as long as that is there."""

from __future__ import annotations

from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.fleet import Catalog, Skill
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.fleets.drained import GOOD_MS, KIND, DrainedWorkers
from holon.engine.session import Session
from holon.errors import NotFound, StoreUnavailable
from holon.storage.memory import MemoryStorage
from holon.telemetry.events import Telemetry

NOTHING: Any = None


class Node:
    """The workers of a node, and who of them is drained."""

    def __init__(self, store: MemoryStorage) -> None:
        self.fleet = Fleet(Dispatcher(NOTHING, Telemetry()), store.now)
        self.drained = DrainedWorkers(store, self.fleet)

    def joins(self, instance_id: str = "process") -> Session:
        session = Session("w1", f"session of {instance_id}", 1, {}, NOTHING)
        session.instance_id = instance_id
        self.fleet.joined(session, "sdk", {}, Catalog((Skill("t"),)))
        return session


async def test_a_drain_outlives_its_node_and_ends_with_the_process(store: MemoryStorage) -> None:
    node = Node(store)
    session = node.joins()
    assert (await node.drained.change("w1", undo=False, reason="why")).draining
    assert not session.taking
    after = Node(store)
    await after.drained.look()
    assert not after.joins().taking
    assert after.joins("another").taking


async def test_a_drain_is_taken_back_at_whichever_node_and_who_leaves_stays_as_it_is(store: MemoryStorage) -> None:
    node, other = Node(store), Node(store)
    session = node.joins()
    await node.drained.change("w1", undo=False, reason="")
    # Where the worker is not, and it has not been heard yet that it is drained.
    await other.drained.change("w1", undo=True, reason="")
    with pytest.raises(NotFound):
        await other.drained.change("w1", undo=True, reason="")
    changes = node.fleet.changes
    await node.drained.look()
    assert session.taking
    assert node.fleet.changes == changes + 1
    node.fleet.leaving(session)
    await other.drained.look()
    await node.drained.change("w1", undo=True, reason="")
    assert not session.taking


async def test_who_is_there_is_not_forgotten_and_who_is_not_is(store: MemoryStorage, clock: ManualClock) -> None:
    node, other = Node(store), Node(store)
    node.joins()
    await node.drained.change("w1", undo=False, reason="")
    for _ in range(3):
        clock.advance(GOOD_MS * 2 // 3)
        await node.drained.look()
    clock.advance(GOOD_MS * 2 // 3)
    await other.drained.look()
    assert await store.documents(KIND)
    clock.advance(GOOD_MS)
    assert not await store.documents(KIND)


async def test_what_the_store_does_not_take_changes_nothing(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    node = Node(store)
    session = node.joins()
    monkeypatch.setattr(store, "put_document", away)
    with pytest.raises(StoreUnavailable):
        await node.drained.change("w1", undo=False, reason="")
    assert session.taking


@pytest.mark.parametrize("back", [None, "process", "another"])
async def test_who_leaves_as_it_is_stored_that_he_is_drained_is_so_when_he_comes_back(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, back: str | None
) -> None:
    node, put = Node(store), store.put_document
    session = node.joins()

    async def meanwhile(*asked: Any, **more: Any) -> Any:
        node.fleet.left(session)
        if back is not None:
            node.joins(back)
        return await put(*asked, **more)

    monkeypatch.setattr(store, "put_document", meanwhile)
    view = await node.drained.change("w1", undo=False, reason="")
    assert view.draining == (back != "another")
    assert not node.joins().taking
    assert node.joins("another").taking


async def test_what_cannot_be_read_drains_nobody(store: MemoryStorage) -> None:
    await store.put_document(KIND, "w1", b"\xc1", version=0)
    node = Node(store)
    await node.drained.look()
    assert node.joins().taking


@pytest.mark.parametrize("worker_id", ["", "w" * 600, "ü" * 200])
async def test_a_name_that_no_worker_can_have_is_of_none(store: MemoryStorage, worker_id: str) -> None:
    for undo in (True, False):
        with pytest.raises(NotFound):
            await Node(store).drained.change(worker_id, undo=undo, reason="")
