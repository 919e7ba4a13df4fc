"""Jobs that are created at the same moment: one operation for all, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from redis.asyncio import Redis

from holon.clock import ManualClock
from holon.domain.value import replace
from holon.errors import ResourceExhausted
from holon.ports import Created, Creation, NewJob, Quota, Seat, StoreSettings
from holon.storage.redis import RedisStorage, flight, lane
from tests.contract.backends import REDIS
from tests.contract.test_fused import with_step
from tests.contract.world import World
from tests.redis_server import RedisServer, binaries


@pytest.fixture(params=binaries(), scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Every server that is here."""
    server = RedisServer(request.param)
    yield server
    server.close()


class Together:
    """A node, and how many operations its server ran."""

    def __init__(self, world: World, redis: Redis) -> None:
        self.world = world
        self._redis = redis

    async def create(
        self, *callers: Sequence[NewJob], want: int = 0, seats: Sequence[Sequence[Seat]] = ()
    ) -> list[Created | BaseException]:
        """What each of these callers gets who ask at the same moment."""
        places = seats or [()] * len(callers)
        calls = (self.world.storage.create_jobs(items, want, its) for items, its in zip(callers, places, strict=True))
        return await asyncio.gather(*calls, return_exceptions=True)

    async def runs(self) -> int:
        stats = await self._redis.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("fcall", "evalsha"))


@pytest.fixture
async def together(server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Together]:
    settings = StoreSettings("a", **getattr(request, "param", {}))
    world = World(REDIS, server.socket, {})
    world.clock, world.settings = ManualClock(), settings
    uri = server.uri(server.database())
    async with Redis.from_url(uri) as redis, RedisStorage(uri, settings, world.clock) as world.storage:
        yield Together(world, redis)


def made(reply: Created | BaseException) -> list[Creation]:
    assert isinstance(reply, Created), reply
    return [what for _, what in reply.jobs]


async def test_they_are_one_run_and_each_caller_is_answered_its_own(together: Together) -> None:
    callers = [[together.world.new_job() for _ in range(n)] for n in (1, 2, 3)]
    before = await together.runs()
    replies = await together.create(*callers)
    # A node looks around once a second.
    assert await together.runs() - before <= 2
    for items, reply in zip(callers, replies, strict=True):
        assert isinstance(reply, Created)
        assert reply.jobs == tuple((item.job.id, Creation.CREATED) for item in items)
    assert await together.world.ready() == [item.job.id for items in callers for item in items]


async def test_each_gets_as_many_claims_as_it_wants_and_none_is_handed_over_twice(together: Together) -> None:
    replies = await together.create(*[[together.world.new_job()] for _ in range(5)], want=1)
    claims = [claim.job.id for reply in replies if isinstance(reply, Created) for claim in reply.claims]
    assert [len(reply.claims) for reply in replies if isinstance(reply, Created)] == [1] * 5
    assert len(set(claims)) == 5


async def test_each_gets_the_offers_for_its_own_seats_within_the_credits(together: Together) -> None:
    hands = [await together.world.hand(name, credits=2) for name in ("w1", "w2")]
    callers = [[with_step(together.world)] for _ in range(6)]
    replies = await together.create(*callers, seats=[[hands[at % 2].seat(1)] for at in range(6)])
    offers = [[offer.worker_id for offer in reply.leased.offers] for reply in replies if isinstance(reply, Created)]
    assert offers == [["w1"], ["w2"], ["w1"], ["w2"], [], []]


async def test_a_request_of_two_callers_makes_one_job(together: Together) -> None:
    first, again, other = (
        [together.world.new_job(request_id="r", digest=digest)] for digest in (b"same", b"same", b"another")
    )
    replies = await together.create(first, again, other)
    assert list(map(made, replies)) == [[Creation.CREATED], [Creation.EXISTING], [Creation.CONFLICT]]
    assert await together.world.ready() == [first[0].job.id]


async def test_who_has_used_up_a_quota_takes_nothing_from_the_others(together: Together) -> None:
    quota = Quota("ann", 2, "2026-11", together.world.now + 100_000)
    callers = [[replace(together.world.new_job(), quota=quota)] for _ in range(4)]
    callers.insert(1, [together.world.new_job()])
    replies = await together.create(*callers)
    what = [made(reply)[0] for reply in replies]
    assert what.count(Creation.OVER_QUOTA) == 2
    assert what[1] is Creation.CREATED
    assert await together.world.quota_used("ann", "2026-11") == 2


@pytest.mark.parametrize("together", [{"history_backlog": 300}], indirect=True)
async def test_whoever_is_refused_for_want_of_room_for_history_is_refused_alone(together: Together) -> None:
    """What the first of them writes counts for those who come after it."""
    known = [together.world.new_job(request_id="r")]
    await together.create(known)
    many = [[together.world.new_job()] for _ in range(20)]
    # It asks for what is there as well, and is refused before that was looked at.
    many.append([together.world.new_job(), *known])
    replies = await together.create(*many, known)
    refused = [isinstance(reply, ResourceExhausted) for reply in replies]
    assert refused == [*sorted(refused[:-1]), False]
    assert any(refused)
    assert made(replies[-1]) == [Creation.EXISTING]
    there = [reply.jobs[0][0] for reply in replies[:-1] if isinstance(reply, Created)]
    assert set(await together.world.ready()) == {known[0].job.id, *there}


async def test_a_run_takes_no_more_than_its_limit(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "_MOST_WORDS", 36)
    before = await together.runs()
    replies = await together.create(*[[together.world.new_job()] for _ in range(10)])
    assert all(made(reply) == [Creation.CREATED] for reply in replies)
    assert 5 <= await together.runs() - before <= 10


async def test_what_is_sent_at_once_is_no_more_than_a_slow_link_carries_in_time(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "MAX_FLIGHT_BYTES", 5_000)
    before = await together.runs()
    replies = await together.create(*[[together.world.new_job(data={"it": "x" * 2_000})] for _ in range(8)])
    assert all(made(reply) == [Creation.CREATED] for reply in replies)
    assert await together.runs() - before >= 4
