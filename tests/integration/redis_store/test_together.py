"""Calls of the same moment: one operation for all that ask for the same, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from holon.clock import ManualClock
from holon.domain.events import CancelRequested
from holon.domain.value import replace
from holon.errors import ResourceExhausted, StoreUnavailable
from holon.ports import Created, Creation, NewJob, Quota, Seat, StoreSettings
from holon.storage.redis import RedisStorage, flight, lane, shared
from holon.stores.redis_servers import Connection, ask
from tests.contract.backends import REDIS
from tests.contract.steps import with_step
from tests.contract.world import World
from tests.redis_server import RedisServer


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
        return int(stats.get("cmdstat_fcall", {"calls": 0})["calls"])


@pytest.fixture
async def together(each_server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Together]:
    settings = StoreSettings("a", **getattr(request, "param", {}))
    world = World(REDIS, each_server.socket, {})
    world.clock, world.settings = ManualClock(), settings
    uri = each_server.uri(each_server.database())
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


async def test_documents_are_written_in_one_run_each_if_its_writer_saw_the_last_of_it(together: Together) -> None:
    storage = together.world.storage
    seen = await storage.put_document("keys", "a", b"0", version=0)
    assert seen
    before = await together.runs()
    changed, again, late, other, elsewhere, deleted = await asyncio.gather(
        storage.put_document("keys", "a", b"1", version=seen),
        storage.put_document("keys", "a", b"2", version=seen),
        storage.put_document("keys", "b", b"1", version=7),
        storage.put_document("keys", "b", b"2", version=0, expires_in=10),
        storage.put_document("rules", "a", b"3", version=0),
        storage.put_document("rules", "b", None, version=0),
    )
    assert await together.runs() - before <= 2
    versions = [version or 0 for version in (seen, changed, other, elsewhere, deleted)]
    assert versions == list(range(seen, seen + 5))
    assert (again, late) == (None, None)
    there = [*await storage.documents("keys"), *await storage.documents("rules")]
    ends = together.world.now + 10
    assert [(one.key, one.value, one.version, one.expires_at) for one in there] == [
        ("a", b"1", changed, None),
        ("b", b"2", other, ends),
        ("a", b"3", elsewhere, None),
    ]


async def test_a_document_that_goes_again_in_other_company_is_answered_as_the_first_time(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = together.world.storage

    async def ask_in_vain(connection: Connection, *commands: bytes) -> Sequence[Any]:
        replies = await ask(connection, *commands)
        if not any(b"keys" in command for command in commands):
            return replies
        monkeypatch.setattr(flight, "ask", ask)
        raise RedisConnectionError("the reply is lost")

    async def put(key: str, patience: float) -> int | None:
        monkeypatch.setattr(lane, "RIDE_OUT_S", patience)
        return await storage.put_document("keys", key, b"1", version=0)

    monkeypatch.setattr(flight, "ask", ask_in_vain)
    given_up, version = await asyncio.gather(put("a", 0.0), put("b", 60.0), return_exceptions=True)
    assert isinstance(given_up, StoreUnavailable)
    assert [one.key for one in await storage.documents("keys")] == ["a", "b"]
    written = await storage.document("keys", "b")
    assert written
    assert written.version == version


async def test_of_documents_of_the_same_moment_as_many_are_taken_as_there_is_room_for(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MAX_DOCUMENTS", 4)
    storage = together.world.storage
    for key in ("a", "b"):
        await storage.put_document("keys", key, b"", version=0, expires_in=10)
    kept = await storage.put_document("keys", "kept", b"", version=0)
    await together.world.after(11)
    puts = (storage.put_document("keys", f"n{at}", b"", version=0) for at in range(5))
    replies = await asyncio.gather(*puts, storage.put_document("rules", "a", b"", version=0), return_exceptions=True)
    assert kept
    assert [isinstance(reply, int) for reply in replies] == [True, True, True, False, False, True]
    assert all(isinstance(reply, ResourceExhausted) for reply in replies[3:5])
    assert [one.key for one in await storage.documents("keys")] == ["kept", "n0", "n1", "n2"]


async def test_jobs_and_their_histories_are_read_in_one_run_each(together: Together) -> None:
    storage = together.world.storage
    jobs = [together.world.new_job(data={"n": at}) for at in range(20)]
    await together.create(jobs)
    ids = [job.job.id for job in jobs]
    before = await together.runs()
    records, lines = await asyncio.gather(
        asyncio.gather(*map(storage.job, [*ids, "nobody"])),
        asyncio.gather(*(storage.history(job_id, 0, 10) for job_id in [*ids, "nobody"])),
    )
    assert await together.runs() - before <= 3
    assert [record and record.job.id for record in records] == [*ids, None]
    assert [len(some) for some in lines] == [len(job.history) for job in jobs] + [0]


async def test_of_a_job_that_is_watched_and_left_at_the_same_moment_the_last_counts(together: Together) -> None:
    storage, watched, left = together.world.storage, together.world.new_job(), together.world.new_job()
    await together.create([watched, left])
    heard: set[str] = set()
    hear_no_more = storage.hear(lambda hint: heard.update(hint.jobs))

    async def unwatch(one: NewJob) -> None:
        storage.unwatch(one.job.id)

    for turn in range(2):
        before = await together.runs()
        await asyncio.gather(storage.watch(left.job.id), unwatch(watched), unwatch(left), storage.watch(watched.job.id))
        assert await together.runs() - before <= 2, turn
    for one in (watched, left):
        await together.world.append(one.job.id, CancelRequested("ann"))
    hear_no_more()
    assert heard == {watched.job.id}
