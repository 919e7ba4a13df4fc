"""A holon's place among holons, as all of its nodes see it."""

from __future__ import annotations

import asyncio

import pytest

from holon.domain.holarchy import Chain, HolonIdentity, LinkClaim, claim_of, repeated
from holon.engine import holarchy
from holon.engine.holarchy import Holarchy
from holon.engine.pins import own_holon, own_id
from holon.errors import (
    FailedPrecondition,
    PermissionDenied,
)
from holon.storage.memory import MemoryStorage


async def test_all_nodes_of_a_holon_have_its_one_id(store: MemoryStorage) -> None:
    ids = await asyncio.gather(*(own_id(store) for _ in range(5)))
    assert len(set(ids)) == 1


async def test_a_holon_knows_when_its_store_was_made(store: MemoryStorage) -> None:
    made = await own_holon(store, 1_000)
    assert (await own_holon(store, 2_000), await own_id(store)) == (made, made.id)
    assert made.made_at == 1_000


def test_of_two_links_the_used_one_stays_then_that_of_the_older_store_then_that_of_the_smaller_id() -> None:
    in_order = [
        LinkClaim("z", 9, True), LinkClaim("z", 0), LinkClaim("a", 5), LinkClaim("b", 5), LinkClaim("a", 6),
    ]  # fmt: skip
    for at, one in enumerate(in_order):
        assert [one.precedes(other) for other in in_order] == [at < place for place in range(len(in_order))]
        assert claim_of(one.told()) == one


@pytest.mark.parametrize("wrong", [{}, {"holon_id": "a"}, {"holon_id": "a", "store_made_at": "-1"}])
def test_what_is_no_claim_is_none(wrong: dict[str, str]) -> None:
    assert claim_of(wrong) is None


async def claims_of(one: Holarchy, child: str) -> LinkClaim | None:
    """What a holon says for its own link to a child that it refuses."""
    with pytest.raises(FailedPrecondition) as refused:
        await one.admit("w", HolonIdentity(child, 1, "i"))
    return claim_of(refused.value.metadata)


async def test_of_two_holons_that_name_each_other_both_find_the_same_link_to_stay(store: MemoryStorage) -> None:
    async with MemoryStorage() as other_store:
        older, younger = Holarchy(store, "older", 8, made_at=1), Holarchy(other_store, "younger", 8, made_at=2)
        # The younger one links first.
        await younger.serve(Chain(("older",)))
        of_younger = await claims_of(younger, "older")
        assert of_younger == LinkClaim("younger", 2)
        assert await older.contested(of_younger)
        assert older.parent_id == "younger"
        of_older = await claims_of(older, "younger")
        assert of_older == LinkClaim("older", 1)
        assert not await younger.contested(of_older)
        assert younger.above == ()
        await younger.admit("w", HolonIdentity("older", 1, "i"))
        # Whoever hears it again changes nothing.
        assert not await older.contested(of_younger)
        assert not await younger.contested(of_older)
        assert (older.parent_id, younger.parent_id) == ("younger", "")


async def test_a_link_that_is_used_stays_after_a_restart_too(store: MemoryStorage) -> None:
    first = Holarchy(store, "us", 8, made_at=2)
    await first.serve(Chain(("parent",)))
    await first.used()
    again = Holarchy(store, "us", 8, made_at=2)
    await again.recall()
    await again.serve(Chain(("root", "parent")))
    assert await claims_of(again, "parent") == LinkClaim("us", 2, True)
    assert not await again.contested(LinkClaim("parent", 1))
    assert again.above == ("root", "parent")


async def test_a_holon_leaves_no_parent_for_what_others_claim(store: MemoryStorage) -> None:
    us = Holarchy(store, "us", 8, made_at=2)
    await us.serve(Chain(("root", "parent")))
    assert not await us.contested(LinkClaim("root", 1))
    with pytest.raises(PermissionDenied):
        await us.contested(LinkClaim("another", 3))
    with pytest.raises(FailedPrecondition):
        await us.contested(LinkClaim("us", 3))
    assert us.above == ("root", "parent")
    # Nor is anything claimed to who is not the parent.
    for who in (HolonIdentity("root", 1, "i"), HolonIdentity("below", 1, "i", ("parent",))):
        with pytest.raises(FailedPrecondition) as refused:
            await us.admit("w", who)
        assert refused.value.metadata == {}


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
