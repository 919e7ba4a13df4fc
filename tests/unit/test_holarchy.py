"""A holon's place among holons, as all of its nodes see it."""

from __future__ import annotations

import asyncio

import pytest

from holon.domain.holarchy import Chain, HolonIdentity, repeated
from holon.engine import holarchy
from holon.engine.holarchy import Holarchy
from holon.engine.pins import own_id
from holon.errors import (
    FailedPrecondition,
    PermissionDenied,
)
from holon.storage.memory import MemoryStorage


async def test_all_nodes_of_a_holon_have_its_one_id(store: MemoryStorage) -> None:
    ids = await asyncio.gather(*(own_id(store) for _ in range(5)))
    assert len(set(ids)) == 1


def test_a_chain_that_comes_round_is_found() -> None:
    assert repeated(("a", "b", "c")) is None
    assert repeated(("a", "b", "a")) == "a"


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
