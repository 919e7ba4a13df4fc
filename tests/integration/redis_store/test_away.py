"""A store in Redis of several partitions of which one is away: nothing in the others waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holon.errors import StoreUnavailable
from holon.ports import Hint, Offer, Result
from tests.contract.backends import PARTITIONED
from tests.contract.world import OK, Hand, World
from tests.hints import hints_of
from tests.integration.redis_store.partitions import spread

GUARD = 3.0


async def three(world: World) -> tuple[Hand, list[Offer]]:
    """A worker that is offered one task of each partition."""
    hand = await world.hand()
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    offers = await world.lease(hand.seat(10))
    return hand, sorted(offers, key=lambda offer: offer.task_id)


def silent(world: World, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The second partition answers no touch until this is set."""
    away = world.storage._partitions[1]  # type: ignore[attr-defined]
    touch, back = away.touch, asyncio.Event()

    async def late(*given: Any) -> Any:
        await back.wait()
        return await touch(*given)

    monkeypatch.setattr(away, "touch", late)
    return back


async def hinted(world: World) -> None:
    async for hint in hints_of(world.storage):
        if hint == Hint(stops=True):
            return


@pytest.mark.parametrize("known", [False, True])
async def test_a_partition_that_does_not_answer_holds_up_no_accepts_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    hand, offers = await three(world)
    away = world.storage._partitions[1]  # type: ignore[attr-defined]
    back = silent(world, monkeypatch)
    if known:
        monkeypatch.setattr(type(away), "away", property(lambda one: one is away and not back.is_set()))
    try:
        async with asyncio.timeout(GUARD):
            for offer in offers:
                # One batch for each: it is not only the first that does not wait.
                await world.touch(accepts=(hand.ref(offer),))
        there = [(await world.task_record(offer.task_id)).state for offer in offers]
        assert there == ["leased", "offered", "leased"]
    finally:
        back.set()
    async with asyncio.timeout(GUARD):
        while (await world.task_record(offers[1].task_id)).state != "leased":
            await world.touch()


async def test_what_a_partition_answers_late_is_heard_with_the_next_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, offers = await three(world)
    newer, _ = await world.resume("w1", *offers)
    back = silent(world, monkeypatch)
    extends = tuple(hand.ref(offer) for offer in offers)
    try:
        async with asyncio.timeout(GUARD):
            assert len((await world.touch(extends=extends)).lost) == 2
        listening = asyncio.create_task(hinted(world))
    finally:
        back.set()
    async with asyncio.timeout(GUARD):
        # It is said that there is something to hear.
        await listening
    assert [ref.task_id for ref in (await world.touch()).lost] == [offers[1].task_id]
    assert newer.session_id != hand.session_id


async def test_a_store_that_is_away_altogether_is_said_to_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hand, offers = await three(world)

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        for partition in world.storage._partitions:  # type: ignore[attr-defined]
            patch.setattr(partition, "touch", refuse)
        with pytest.raises(StoreUnavailable, match="it is away"):
            await world.touch(accepts=tuple(hand.ref(offer) for offer in offers))
    await world.touch()
    assert [(await world.task_record(offer.task_id)).state for offer in offers] == 3 * ["leased"]


async def test_what_is_refused_after_its_batch_has_failed_is_said_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, offers = await three(world)
    _, away, broken = world.storage._partitions  # type: ignore[attr-defined]
    back = asyncio.Event()

    async def refuse_late(*_: object) -> None:
        await back.wait()
        raise StoreUnavailable("it is away", retry_after=0.01)

    async def fail(*_: object) -> None:
        raise ValueError("nobody expects this")

    with monkeypatch.context() as patch:
        patch.setattr(away, "touch", refuse_late)
        patch.setattr(broken, "touch", fail)
        with pytest.raises(ValueError, match="nobody expects this"):
            await world.touch(accepts=tuple(hand.ref(offer) for offer in offers))
    listening = asyncio.create_task(hinted(world))
    back.set()
    async with asyncio.timeout(GUARD):
        await listening
    await world.touch()
    assert [(await world.task_record(offer.task_id)).state for offer in offers] == ["leased", "leased", "offered"]


async def test_a_store_that_closes_leaves_nothing_that_is_still_to_be_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, offers = await three(world)
    loop = asyncio.get_running_loop()
    call_later, timers = loop.call_later, list[asyncio.TimerHandle]()

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away", retry_after=600.0)

    def noted(*given: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*given, **more))
        return timers[-1]

    silent(world, monkeypatch)
    monkeypatch.setattr(world.storage._partitions[2], "touch", refuse)  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_later", noted)
        await world.touch(accepts=tuple(hand.ref(offer) for offer in offers))
    [again] = [one for one in timers if one.when() > loop.time() + 500]
    before = {one.get_name() for one in asyncio.all_tasks()}
    await world.close()
    assert again.cancelled()
    assert "store-sayings" in before
    assert "store-sayings" not in {one.get_name() for one in asyncio.all_tasks()}


@pytest.mark.parametrize("known", [False, True])
async def test_results_are_stored_though_one_that_travels_with_them_is_for_a_partition_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    _, offers = await three(world)
    away = world.storage._partitions[1]  # type: ignore[attr-defined]
    back = asyncio.Event()
    asked: list[object] = []

    async def refuse(*given: object) -> None:
        asked.append(given)
        raise StoreUnavailable("it is away")

    results = [Result(offer.task_id, offer.lease_id, OK) for offer in offers]
    with monkeypatch.context() as patch:
        patch.setattr(away, "complete", refuse)
        if known:
            patch.setattr(type(away), "away", property(lambda one: one is away and not back.is_set()))
        done = await world.storage.complete(results, "w1", 10, [])
        assert done.verdicts == (None, None, None)
        assert done.unstored == {offers[1].lease_id}
        assert bool(asked) is not known
        there = [(await world.task_record(offer.task_id)).state for offer in offers]
        assert there[0] == there[2] != there[1] == "offered"
        # What the others made ready is the caller's.
        assert {claim.job.id for claim in done.claims} == {offers[0].job_id, offers[2].job_id}
        with pytest.raises(StoreUnavailable):
            # Of one that comes alone, the store says so itself.
            await world.storage.complete(results[1:2], "w1", 0, [])
    done = await world.storage.complete(results, "w1", 0, [])
    assert (done.verdicts, done.unstored) == ((None, None, None), frozenset())
    assert len({(await world.task_record(offer.task_id)).state for offer in offers}) == 1


async def test_what_has_ended_is_deleted_in_the_partitions_that_are_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await spread(world, 2)
    for job in jobs:
        await world.finish(await world.claim_of(job))

    async def refused(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(world.storage._partitions[0].link, "call", refused)  # type: ignore[attr-defined]
        patch.setattr(world.storage._partitions[0].link, "ask", refused)  # type: ignore[attr-defined]
        newest = await world.storage.surplus(1)
        assert newest is not None
        assert await world.storage.purge(newest + 1, 10) == 4
    assert await world.storage.purge(world.now + 1, 10) == 2


async def test_what_waits_in_the_partitions_that_are_there_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))

    async def refused(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(world.storage._partitions[1].link, "read", refused)  # type: ignore[attr-defined]
        assert await world.waiting() == 2
    assert await world.waiting() == 3


@pytest.fixture
async def moving(tmp_path: Path) -> AsyncIterator[World]:
    """As `world`, and history is moved."""
    world = World(PARTITIONED, tmp_path, {"history_backlog": 2**30})
    await world.open()
    yield world
    await world.close()


async def test_what_was_taken_of_a_partition_that_is_away_is_settled_once_it_is_back_and_not_taken_again(
    moving: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, hook = moving, "https://ann.example/"
    for job in await spread(world, 1, webhook=hook):
        await world.finish(await world.claim_of(job))
    storage, hold = world.storage, 1_000
    away = storage._partitions[1]  # type: ignore[attr-defined]
    notices, ends = await storage.take(100), await storage.take_ends(100, hold)
    assert {notice.record.job.id[0] for notice in notices} == {record.job.id[0] for record in ends.jobs} == set("012")

    async def refused(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(away.link, "call", refused)
        await storage.settle([notice.id for notice in notices])
        await storage.settle_ends([record.job.id for record in ends.jobs])
    world.clock.advance(world.settings.claim + hold)
    assert await storage.take(100) == []
    assert (await storage.take_ends(100, hold)).jobs == ()


async def test_that_no_partition_is_there_to_settle_anything_is_said(
    moving: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await spread(moving, 1)
    notices = [notice.id for notice in await moving.storage.take(100)]
    assert len(notices) == len(jobs)

    async def refused(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        for one in moving.storage._partitions:  # type: ignore[attr-defined]
            patch.setattr(one.link, "call", refused)
            patch.setattr(type(one), "away", True)
        with pytest.raises(StoreUnavailable, match="it is away"):
            await moving.storage.settle(notices)
    await moving.storage.settle(notices)
    moving.clock.advance(moving.settings.claim)
    assert await moving.storage.take(100) == []
