"""Which worker a holon belongs to: the one that it came as first, until the operator says otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.holarchy import Chain, HolonIdentity
from holon.engine import claims, links, pins
from holon.engine.holarchy import Holarchy
from holon.engine.links import LINK_MS
from holon.errors import (
    Aborted,
    NotFound,
    PermissionDenied,
    StoreUnavailable,
)
from holon.storage.memory import MemoryStorage
from tests.unit.holons import child


async def test_one_whose_copy_has_linked_meanwhile_is_told_how_it_is_let_in_again(store: MemoryStorage) -> None:
    ours = Holarchy(store, "us", 8)
    for one in (child(1, "ours"), child(2, "a copy")):
        await ours.admit("w", one)
        await ours.left("w", one)
    with pytest.raises(Aborted, match="holon uplink accept w` on its parent"):
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
        with pytest.raises(PermissionDenied, match=r"workers\.toml .* to 'w' .*`holon uplink accept w` on its parent"):
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


@pytest.mark.parametrize("stored", [b"{", b"[]", b"{}", b"\xff"])
async def test_a_pin_that_cannot_be_read_lets_nobody_in_until_the_next_is_accepted(
    store: MemoryStorage, stored: bytes
) -> None:
    for key in (pins.PARENT, pins.child_key("w")):
        await store.put_document(pins.KIND, key, stored, version=0)
    ours = Holarchy(store, "us", 8)
    await ours.recall()
    assert not ours.parent_id
    with pytest.raises(PermissionDenied, match="holon uplink accept w` on its parent"):
        await ours.admit("w", child(1, "a"))
    with pytest.raises(PermissionDenied, match="holon uplink accept` on this child"):
        await ours.serve(Chain(("parent",)))
    assert (await ours.accept("w"), await ours.accept("")) == ("unknown", "unknown")
    await ours.admit("w", child(1, "a"))
    await ours.serve(Chain(("parent",)))
    assert (ours.below, ours.above) == (("below",), ("parent",))


@pytest.mark.parametrize("worker_id", ["w", "x" * 100_000, "\N{PERSON WITH BALL}" * 253])
async def test_of_a_worker_that_never_was_nobody_is_forgotten(store: MemoryStorage, worker_id: str) -> None:
    with pytest.raises(NotFound, match="no holon is known"):
        await Holarchy(store, "us", 8).accept(worker_id)
