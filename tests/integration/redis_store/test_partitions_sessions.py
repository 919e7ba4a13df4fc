"""A store of several partitions: what a session holds, and gets, out of all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.errors import StoreUnavailable
from holon.ports import Opening, Result
from holon.storage.redis import RedisStorage, flight
from holon.stores import redis_servers
from holon.stores.redis_servers import Connection
from tests.contract.world import OK, T, U, World
from tests.integration.redis_store.partitions import new_at, places, spread


async def test_i4_a_session_gets_no_more_than_its_credits_out_of_all_partitions(world: World) -> None:
    hand = await world.hand(credits=4)
    for job in await spread(world):
        await world.dispatch(claim=await world.claim_of(job))
    some = await asyncio.gather(*(world.storage.lease([hand.seat(10)]) for _ in range(5)))
    held = [offer for leased in some for offer in leased.offers]
    assert len(held) <= 4
    held += await world.lease(hand.seat(10))
    assert len(held) == 4
    assert len(places([offer.task_id for offer in held])) > 1
    for _ in range(3):
        # Each room that a result makes is used once, wherever what waits is.
        ended = held.pop(0)
        result = Result(ended.task_id, ended.lease_id, OK)
        done, leased = await asyncio.gather(
            world.storage.complete([result], "w1", 0, [hand.seat(1)]), world.storage.lease([hand.seat(10)])
        )
        new = [*done.leased.offers, *leased.offers, *await world.lease(hand.seat(10))]
        assert len(new) == 1
        held += new


async def test_what_is_handed_over_again_counts_against_the_credits_everywhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, _ = await spread(world, 1)
    hand = await world.hand(credits=1)
    claim = await world.claim_of(here)
    await world.dispatch(claim=await world.claim_of(there))
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    lost: list[str] = []

    async def ask(connection: Connection, *commands: bytes) -> list[Any]:
        replies = await redis_servers.ask(connection, *commands)
        if not lost and any(step.commit_id.encode() in words for words in commands):
            lost.append(step.commit_id)
            raise RedisConnectionError("the reply was lost")
        return replies

    monkeypatch.setattr(flight, "ask", ask)
    done = await world.commit(step, [hand.seat()])
    assert lost
    assert [offer.job_id for offer in done.leased.offers] == [here]
    assert await world.lease(hand.seat()) == []


async def test_one_credit_goes_where_a_task_waits(world: World) -> None:
    hand = await world.hand(credits=1)
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    ended = []
    for _ in range(3):
        [offer] = await world.lease(hand.seat())
        done = await world.storage.complete([Result(offer.task_id, offer.lease_id, OK)], "w1", 0, [])
        assert done.verdicts == (None,)
        ended.append(offer.task_id)
    assert places(ended) == {"0", "1", "2"}


async def test_what_waits_in_another_partition_is_said_and_does_not_starve(world: World) -> None:
    hand = await world.hand(credits=1)
    for job in await spread(world, 20):
        await world.dispatch(claim=await world.claim_of(job))
    [offer] = await world.lease(hand.seat())
    ended: list[str] = []
    while len(places(ended)) < 3:
        done = await world.storage.complete([Result(offer.task_id, offer.lease_id, OK)], "w1", 0, [hand.seat()])
        ended.append(offer.task_id)
        assert T.key in done.leased.left
        [offer] = done.leased.offers or await world.lease(hand.seat())


async def test_a_commit_that_leases_nothing_hides_nothing_of_what_waits(world: World) -> None:
    lost, cancelled, good = await spread(world, 1)
    hand, claim = await world.hand(), await world.claim_of(lost)
    await world.dispatch(claim=claim)
    assert (await world.commit(world.step(claim), [hand.seat()])).conflict
    await world.append(cancelled, CancelRequested("ann"))
    claim = await world.claim_of(cancelled)
    waits = world.step(claim, Status.WAITING_FOR_WORKER, consumed=(), tasks=(world.task(claim, need=U),))
    assert (await world.commit(waits, [hand.seat()])).cancel_pending
    done = await world.commit(world.step(await world.claim_of(good)), [hand.seat()])
    assert done.leased.left == {T.key, U.key}


async def test_a_session_resumes_what_it_holds_in_every_partition_and_counts_it(world: World) -> None:
    hand = await world.hand(credits=3)
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    held = await world.lease(hand.seat(3))
    assert places([offer.task_id for offer in held]) == {"0", "1", "2"}
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    newer, opened = await world.resume("w1", *held, credits=3)
    assert [offer.lease_id for offer in opened.kept] == [offer.lease_id for offer in held]
    assert await world.lease(newer.seat(3)) == []
    assert (await world.touch(extends=tuple(newer.ref(offer) for offer in held))).lost == ()
    lost = (await world.touch(extends=tuple(hand.ref(offer) for offer in held))).lost
    assert len(lost) == 3


async def test_nothing_is_kept_of_a_session_that_could_not_be_opened(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = world.storage
    assert isinstance(storage, RedisStorage)

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(storage._partitions[1], "open_session", refuse)
    with pytest.raises(StoreUnavailable):
        await world.hand()
    assert "sessions=0" in repr(storage._shares)


async def test_of_two_sessions_that_open_at_once_one_is_current_everywhere(world: World) -> None:
    for job in await spread(world):
        await world.dispatch(claim=await world.claim_of(job))
    names = [f"session-{number}" for number in range(8)]
    await asyncio.gather(*(world.storage.open_session(Opening("w1", name, 10)) for name in names))
    partitions = world.storage._partitions  # type: ignore[attr-defined]
    async with Redis.from_url(world.storage._uri) as redis:  # type: ignore[attr-defined]
        rows = [msgpack.unpackb(await redis.get(f"{one._keys.prefix}w:w1") or b"") for one in partitions]
    current = {session for session, *_ in rows}
    assert len(current) == 1


async def test_calls_that_a_partition_refuses_take_no_credits_from_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = await world.hand(credits=4)
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    away = world.storage._partitions[1]  # type: ignore[attr-defined]

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(away, "create_jobs", refuse)
    for _ in range(6):
        with pytest.raises(StoreUnavailable):
            await world.storage.create_jobs([new_at(world, 1)], 0, [hand.seat()])
    monkeypatch.setattr(away, "lease", refuse)
    assert len(await world.lease(hand.seat(4))) == 2
