"""What comes late, or not at all, between a node and its Redis: replies that are lost, and calls that were given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, NoReturn, TypeVar

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from holon.clock import ManualClock
from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.domain.matching import ANY_CONTRACT, Offering
from holon.domain.value import replace
from holon.engine.dispatcher import Dispatcher
from holon.engine.session import Session
from holon.engine.touches import Touches
from holon.errors import StoreUnavailable
from holon.ports import Creation, Document, Offer, Opening, Quota, StopReason, StoreSettings
from holon.storage.redis import RedisStorage, lane
from holon.stores import redis_servers
from holon.telemetry.events import Telemetry
from tests.chaos.link import Link
from tests.contract.backends import REDIS
from tests.contract.world import Hand, World
from tests.hints import heard, hints_of
from tests.ports import free_ports
from tests.redis_server import RedisServer

T = TypeVar("T")

GUARD = 60.0  # seconds; reached only by what does not come


@pytest.fixture(scope="module")
def redis_server() -> Iterator[tuple[RedisServer, int]]:
    [port] = free_ports(1)
    server = RedisServer(options=("--port", str(port)))
    yield server, port
    server.close()


class Far:
    """A node whose way to Redis can fail, and a client that is beside it."""

    def __init__(self, world: World, link: Link, redis: Redis) -> None:
        self.world = world
        self.link = link
        self.redis = redis

    async def until(self, holds: Callable[[], Awaitable[object]]) -> None:
        """Wait for what the server says."""
        loop = asyncio.get_running_loop()
        end = loop.time() + GUARD
        while not await holds():
            assert loop.time() < end

    async def calls(self) -> int:
        """How many operations it was asked for."""
        stats = await self.redis.info("commandstats")
        return int(stats.get("cmdstat_fcall", {"calls": 0})["calls"])

    async def outdated(self) -> bool:
        return "errorstat_OUTDATED" in await self.redis.info("errorstats")


@pytest.fixture
async def far(redis_server: tuple[RedisServer, int], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Far]:
    monkeypatch.setattr(redis_servers, "TIMEOUT_S", 0.3)
    serving, port = redis_server
    database = serving.database()
    world = World(REDIS, serving.socket, {})
    world.clock, world.settings = ManualClock(), StoreSettings("a")
    async with AsyncExitStack() as opened:
        link = await opened.enter_async_context(Link("a->redis", lambda: port))
        redis = await opened.enter_async_context(Redis.from_url(serving.uri(database)))
        await redis.config_resetstat()
        storage = RedisStorage(f"redis://127.0.0.1:{link.port}/{database}", world.settings, world.clock)
        world.storage = await opened.enter_async_context(storage)
        yield Far(world, link, redis)


async def stopped(world: World, hand: Hand) -> Offer:
    """A lease whose job was cancelled under it."""
    offer = await world.accepted(hand)
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.CANCELLED, end_tasks=True))
    return offer


async def unanswered(far: Far, asking: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A call whose reply does not come, though the server did what it was asked."""
    before = await far.calls()
    far.link.deaf = True
    asked = asyncio.create_task(asking)

    async def was_asked() -> bool:
        return await far.calls() > before

    await far.until(was_asked)
    return asked


async def deaf(far: Far, asking: Coroutine[Any, Any, T]) -> T:
    """The answer to a call whose first one was lost, though the server did what it was asked."""
    asked = await unanswered(far, asking)
    far.link.cut()
    far.link.heal()
    return await asked


async def test_a_stop_whose_telling_was_lost_is_told_again(far: Far) -> None:
    hand = await far.world.hand()
    offer = await stopped(far.world, hand)
    stops = await deaf(far, far.world.stops())
    assert [(stop.lease, stop.reason) for stop in stops] == [(hand.ref(offer), StopReason.CANCELLED)]
    assert await far.world.stops() == []


async def test_a_change_of_a_document_whose_answer_was_lost_is_answered_as_the_first_time(far: Far) -> None:
    storage = far.world.storage
    first = await deaf(far, storage.put_document("keys", "a", b"1", version=0))
    assert first
    assert await storage.document("keys", "a") == Document("keys", "a", first, b"1")
    assert await deaf(far, storage.put_document("keys", "a", None, version=first))
    assert await storage.document("keys", "a") is None


async def test_a_job_whose_creation_was_not_answered_counts_once(far: Far) -> None:
    storage, quota = far.world.storage, Quota("ann", 1, "2026-11", far.world.now + 60_000)
    new = replace(far.world.new_job(), quota=quota)
    assert (await deaf(far, storage.create_jobs([new], 0))).jobs == ((new.job.id, Creation.CREATED),)
    assert await far.world.quota_used("ann", "2026-11") == 1
    assert await storage.job(new.job.id) is not None


async def test_jobs_whose_handing_over_was_not_heard_are_ready_again_at_once_as_if_they_had_not_been(far: Far) -> None:
    world = far.world
    held = await world.start()
    jobs = [await world.create() for _ in range(2)]
    hints = hints_of(world.storage)
    # The call is sent again, and there is nothing that is not handed over already.
    assert await deaf(far, world.storage.claim(5)) == ()
    await heard(hints, lambda hint: hint.ready)
    claims = await world.storage.claim(5)
    assert [(claim.job.id, claim.deliveries) for claim in claims] == [(job, 1) for job in jobs]
    assert await world.storage.keep([(held.job.id, held.claim_id)]) == (True,), "what was heard of is kept"


async def test_jobs_whose_handing_over_was_not_heard_are_given_back_though_the_next_connection_is_lost_for_long(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = far.world
    jobs = [await world.create() for _ in range(2)]
    monkeypatch.setattr(lane, "RIDE_OUT_S", 0.2)
    asked = await unanswered(far, world.storage.claim(5))

    async def lost(*_: Any) -> NoReturn:
        far.link.freeze()
        far.link.cut()
        raise RedisConnectionError("lost")

    with monkeypatch.context() as patched:
        patched.setattr(lane, "there_and_back", lost)
        far.link.cut()
        far.link.heal()
        # What is said of them is refused as these calls are, of which the second comes after it.
        with pytest.raises(StoreUnavailable):
            await asked
        with pytest.raises(StoreUnavailable):
            await world.ready()
    far.link.heal()
    await ready_again(far, jobs)


async def test_jobs_whose_handing_over_was_not_waited_for_in_a_hurry_are_given_back(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "LAST_WAIT_S", 0.1)
    jobs = [await far.world.create() for _ in range(2)]
    storage = far.world.storage
    asked = await unanswered(far, storage.claim(5))
    assert isinstance(storage, RedisStorage)
    storage.hurry()
    with pytest.raises(StoreUnavailable):
        await asked
    far.link.heal()
    await ready_again(far, jobs)


async def ready_again(far: Far, jobs: Sequence[str]) -> None:
    """They are handed over as if they had not been."""
    # What is said on a new connection comes before what is asked after the first answer on it.
    assert await far.world.ready() == []
    claims = await far.world.storage.claim(5)
    assert [(claim.job.id, claim.deliveries) for claim in claims] == [(job, 1) for job in jobs]


async def test_what_a_server_that_has_lost_its_newest_hands_over_once_more_is_kept(far: Far) -> None:
    await far.world.create()
    before = {key: await far.redis.dump(key) or b"" for key in await far.redis.keys("*")}
    # Its first connection's number is lost as well, as if it had come just before.
    asked = await unanswered(far, far.world.storage.claim(1))
    far.link.freeze()
    far.link.cut()
    await far.redis.flushdb()
    for key, value in before.items():
        await far.redis.restore(key, 0, value)
    await far.redis.hincrby("{h:0}:meta", "lane:a", -1)
    far.link.heal()
    [claim] = await asked
    # What is said on a new connection comes before what is asked after the first answer on it.
    assert await far.world.ready() == []
    assert await far.world.storage.keep([(claim.job.id, claim.claim_id)]) == (True,)


async def test_who_listens_again_looks_at_every_kind_of_document_that_it_asked_for(far: Far) -> None:
    assert await far.world.storage.documents("keys") == []
    hints = hints_of(far.world.storage)
    await far.redis.client_kill_filter(_type="pubsub")
    await heard(hints, lambda hint: "keys" in hint.documents)


async def test_what_was_given_up_and_arrives_late_is_not_carried_out(far: Far) -> None:
    world = far.world
    await world.dispatch()
    far.link.hold()
    await world.storage.open_session(Opening("w1", "older", 1, ()))
    newer = await world.hand("w1")
    far.link.heal()
    await far.until(far.outdated)
    assert len(await world.lease(newer.seat())) == 1


async def test_i6_an_offer_that_was_lost_on_its_way_does_not_keep_its_workers_credit(far: Far) -> None:
    world, hand = far.world, await far.world.hand(credits=1)
    session = Session(hand.worker_id, hand.session_id, 1, {Offering("t"): ANY_CONTRACT}, Unheard())
    dispatcher = Dispatcher(world.storage, Telemetry())
    dispatcher.add(session)
    touches = Touches(world.storage, dispatcher, world.storage.now)
    task = await world.dispatch()
    assert [offer.task_id for offer in await world.lease(hand.seat())] == [task]
    await world.after(world.settings.offer)
    await world.after(world.settings.lease)
    assert await world.lease(hand.seat()) == []
    await touches.flush()
    await touches.flush()
    assert [offer.task_id for offer in await world.lease(hand.seat())] == [task]


class Unheard:
    """A connection to a worker of which nothing is expected."""

    def offer(self, offers: Any) -> None:
        raise AssertionError(offers)

    def stop(self, stops: Any) -> None:
        raise AssertionError(stops)

    def go_away(self, reason: str, message: str, time_left: int) -> None:
        raise AssertionError(reason)


async def test_who_listens_again_looks_at_every_job_that_it_watches(far: Far) -> None:
    job = await far.world.create()
    await far.world.storage.watch(job)
    hints = hints_of(far.world.storage)
    await far.redis.client_kill_filter(_type="pubsub")
    await heard(hints, lambda hint: job in hint.jobs)


async def test_who_hurries_waits_for_nobody(
    far: Far, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("lane", "link"):
        monkeypatch.setattr(f"holon.storage.redis.{module}.RIDE_OUT_S", 2 * GUARD)
    far.link.freeze()
    sent = [asyncio.create_task(far.world.storage.claim(1)) for _ in range(3)]
    await asyncio.sleep(0)
    storage = far.world.storage
    assert isinstance(storage, RedisStorage)
    storage.hurry()
    async with asyncio.timeout(GUARD):
        said = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(error) for error in said] == 3 * [StoreUnavailable]
        with pytest.raises(StoreUnavailable):
            await far.world.ready()
    assert "the store is away, 0 calls wait: no answer came in time" in caplog.messages
    far.link.heal()
    assert await far.world.ready() == []


async def test_a_connection_that_was_closed_while_it_was_made_is_a_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        async def connect(self) -> None:
            # As uvloop says it.
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

        async def disconnect(self, nowait: bool) -> None:
            pass

    monkeypatch.setattr(ConnectionPool, "make_connection", lambda _: Closed())
    with pytest.raises(RedisConnectionError, match="closed"):
        await redis_servers.Server("redis://127.0.0.1:1").connect()


@pytest.mark.parametrize("what", ["connects", "sends"])
async def test_a_cancel_that_the_client_library_keeps_to_itself_is_heard(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As where it sends by `asyncio.wait_for`, before Python 3.12, and what it sends is over at the same moment."""

    class Deaf:
        async def connect(self) -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        async def send_packed_command(self, *_: object, **__: object) -> None:
            await self.connect()

        async def disconnect(self, nowait: bool) -> None:
            pass

    deaf: Any = Deaf()
    monkeypatch.setattr(ConnectionPool, "make_connection", lambda _: deaf)
    to_redis = redis_servers.Server("redis://127.0.0.1:1")
    asking = asyncio.create_task(to_redis.connect() if what == "connects" else redis_servers.ask(deaf, ("PING",)))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait((asking,))
    assert asking.cancelled()
