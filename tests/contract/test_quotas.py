"""Quotas: a job that is made has been counted, never more are made, and what has used up its quota is not made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from holon.domain.value import replace
from holon.errors import TooLarge
from holon.ports import Creation, NewJob, Quota
from holon.storage.shared_records import KEPT_LONGER
from tests.contract.world import Factory, World

CREATED, EXISTING, OVER = Creation.CREATED, Creation.EXISTING, Creation.OVER_QUOTA


def quota(world: World, limit: int, *, key: str = "ann", period: str = "2026-11", left: int = 1_000_000) -> Quota:
    """A quota whose period has some time left."""
    return Quota(key, limit, period, world.now + left)


def job(world: World, counted: Quota, **facts: str) -> NewJob:
    """A job that counts against a quota."""
    return replace(world.new_job(**facts), quota=counted)  # type: ignore[arg-type]


async def create(world: World, items: Sequence[NewJob]) -> list[Creation]:
    """What became of jobs that were created in one call."""
    return [what for _, what in (await world.storage.create_jobs(items)).jobs]


async def test_jobs_are_made_until_their_quota_is_used_up(world: World) -> None:
    limited = quota(world, 2)
    made = [await create(world, [job(world, limited)]) for _ in range(3)]
    assert made == [[CREATED], [CREATED], [OVER]]
    assert await world.quota_used("ann", "2026-11") == 2


async def test_a_job_over_its_quota_is_not_made(world: World) -> None:
    new = job(world, quota(world, 0))
    reply = await world.storage.create_jobs([new])
    assert reply.jobs == ((new.job.id, OVER),)
    assert await world.storage.job(new.job.id) is None
    assert await world.ready() == []


async def test_of_many_in_one_call_as_many_are_made_as_the_quota_allows(world: World) -> None:
    limited = quota(world, 2)
    items = [job(world, limited), world.new_job(), job(world, limited), job(world, limited), world.new_job()]
    assert await create(world, items) == [CREATED, CREATED, CREATED, OVER, CREATED]
    assert await world.quota_used("ann", "2026-11") == 2


async def test_a_repeat_counts_nothing_and_gets_its_job_though_the_quota_is_used_up(world: World) -> None:
    limited = quota(world, 1)
    first = job(world, limited, request_id="r")
    assert await create(world, [first]) == [CREATED]
    again = job(world, limited, request_id="r")
    assert (await world.storage.create_jobs([again])).jobs == ((first.job.id, EXISTING),)
    assert await create(world, [job(world, limited, request_id="s")]) == [OVER]
    assert await create(world, [job(world, quota(world, 2), request_id="s")]) == [CREATED]
    assert await world.quota_used("ann", "2026-11") == 2


async def test_a_request_id_used_for_something_else_counts_nothing(world: World) -> None:
    limited = quota(world, 5)
    await create(world, [replace(job(world, limited, request_id="r"), request_digest=b"one")])
    other = replace(job(world, limited, request_id="r"), request_digest=b"two")
    assert await create(world, [other]) == [Creation.CONFLICT]
    assert await world.quota_used("ann", "2026-11") == 1


async def test_keys_and_periods_are_counted_apart(world: World) -> None:
    quotas = [quota(world, 1), quota(world, 1, key="bob"), quota(world, 1, period="2026-12")]
    for one in quotas:
        assert await create(world, [job(world, one)]) == [CREATED]
    for one in quotas:
        assert await create(world, [job(world, one)]) == [OVER]
        assert await world.quota_used(one.key, one.period) == 1


async def test_what_no_job_was_made_under_has_nothing_used(world: World) -> None:
    await create(world, [job(world, quota(world, 0))])
    await create(world, [world.new_job()])
    assert await world.quota_used("ann", "2026-11") == 0


async def test_a_raised_limit_makes_room_and_a_lowered_one_takes_it(world: World) -> None:
    assert await create(world, [job(world, quota(world, 1)) for _ in range(2)]) == [CREATED, OVER]
    assert await create(world, [job(world, quota(world, 3)) for _ in range(3)]) == [CREATED, CREATED, OVER]
    assert await create(world, [job(world, quota(world, 2))]) == [OVER]
    assert await world.quota_used("ann", "2026-11") == 3


async def test_many_who_create_at_once_share_a_quota_exactly(world: World) -> None:
    limited = quota(world, 7)
    made = await asyncio.gather(*(create(world, [job(world, limited), job(world, limited)]) for _ in range(10)))
    assert sum(what is CREATED for pair in made for what in pair) == 7
    assert await world.quota_used("ann", "2026-11") == 7


async def test_items_of_one_request_count_once(world: World) -> None:
    limited = quota(world, 5)
    items = [replace(job(world, limited, request_id="r"), request_digest=b"d") for _ in range(3)]
    assert await create(world, items) == [CREATED, EXISTING, EXISTING]
    assert await world.quota_used("ann", "2026-11") == 1
    spent = [job(world, quota(world, 1), request_id="s") for _ in range(2)]
    assert await create(world, spent) == [OVER, OVER]


async def test_a_call_that_is_refused_counts_nothing(store: Factory) -> None:
    world = await store(max_state_bytes=1_000)
    limited = quota(world, 5)
    large = replace(world.new_job(data={"text": "x" * 2_000}), quota=limited)
    with pytest.raises(TooLarge):
        await world.storage.create_jobs([job(world, limited), large])
    assert await world.quota_used("ann", "2026-11") == 0


async def test_the_count_of_a_period_that_is_over_is_forgotten(world: World) -> None:
    await create(world, [job(world, quota(world, 1, left=1_000))])
    await create(world, [job(world, quota(world, 1, period="2026-12", left=60_000 + KEPT_LONGER))])
    world.clock.advance(1_000 + KEPT_LONGER)
    await world.storage.purge(0, 1)
    assert await world.quota_used("ann", "2026-11") == 0
    assert await world.quota_used("ann", "2026-12") == 1


async def test_what_was_used_outlives_the_process(durable: Factory) -> None:
    world = await durable()
    limited = quota(world, 3)
    await create(world, [job(world, limited)])
    await create(world, [job(world, limited)])
    await world.restart()
    assert await world.quota_used("ann", "2026-11") == 2
    assert await create(world, [job(world, limited) for _ in range(2)]) == [CREATED, OVER]
    await world.restart()
    assert await create(world, [job(world, limited)]) == [OVER]
