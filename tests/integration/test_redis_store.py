"""The store in Redis beyond the contract: several nodes on one server, and a server that is away, full, or not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from holon.clock import ManualClock
from holon.domain.events import Woken
from holon.domain.job import Status
from holon.domain.value import replace
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import (
    Count,
    Creation,
    Document,
    Hint,
    JobFilter,
    Opening,
    Quota,
    Replaced,
    Result,
    StopReason,
    StoreSettings,
)
from holon.storage.redis import RedisStorage, lane, queues
from holon.storage.redis import server as of_server
from holon.storage.redis.scripts import code
from holon.storage.redis.server import ask
from holon.storage.sealing import Seal
from tests.contract.backends import REDIS
from tests.contract.test_fused import unclaimed, with_step
from tests.contract.test_reads import listed
from tests.contract.world import OK, Hand, T, U, World
from tests.e2e.processes import until
from tests.hints import hints_of
from tests.redis_server import RedisServer, binaries

GUARD = 60.0  # seconds; reached only by what does not come


@pytest.fixture(params=binaries(), scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Every server that is here."""
    server = RedisServer(request.param, append_only=True, options=("--appendfsync", "no"))
    yield server
    server.close()


class Nodes:
    """Worlds of several nodes on one store."""

    def __init__(self, server: RedisServer, opened: AsyncExitStack) -> None:
        self.server = server
        self.uri = server.uri(server.database())
        self.clock = ManualClock()
        self._opened = opened

    async def add(self, name: str, settings: StoreSettings | None = None, **options: Any) -> World:
        """One more node, under the same clock."""
        world = World(REDIS, self.server.socket, {})
        world.clock, world.settings = self.clock, settings or StoreSettings(name)
        world.storage = await self._opened.enter_async_context(
            RedisStorage(self.uri, world.settings, self.clock, **options)
        )
        # What one node makes up must not be what another does.
        world._made = 1_000_000 * len(name) * ord(name[-1])
        return world

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        async with Redis.from_url(self.uri) as client:
            yield client


@pytest.fixture
async def nodes(server: RedisServer) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as opened:
        yield Nodes(server, opened)


async def heard(hints: AsyncIterator[Hint], wanted: Callable[[Hint], object]) -> Hint:
    async with asyncio.timeout(GUARD):
        async for hint in hints:
            if wanted(hint):
                return hint
    raise AssertionError("the hints ended")


async def look(world: World, *, watchful: bool = False) -> None:
    """A node looks around, as it does once a second; a watchful one has done so for long."""
    assert isinstance(world.storage, RedisStorage)
    for partition in world.storage._partitions:
        await partition.link.call("look", "1" if watchful else "")


# Several nodes ------------------------------------------------------------------------------------------------------


async def test_what_a_server_remembers_of_one_store_is_not_taken_for_another(server: RedisServer) -> None:
    async with AsyncExitStack() as opened:
        # The same happens in both: each row is in the one what it is in the other.
        one, other = [await Nodes(server, opened).add("a") for _ in range(2)]
        pairs = [(world, await world.hand()) for world in (one, other)]
        offers = [await world.accepted(hand) for world, hand in pairs]
        assert offers[0].task_id == offers[1].task_id
        assert await one.complete(offers[0]) is None
        assert (await other.task_record(offers[1].task_id)).state == "leased"
        assert await other.complete(offers[1]) is None
        assert (await other.complete(offers[1])) is None
        assert await one.ready() == await other.ready()


async def test_more_kinds_of_jobs_than_a_server_remembers_are_what_they_are(nodes: Nodes) -> None:
    world = await nodes.add("a")
    made = [world.new_job(owner=f"owner-{at}", blueprint=f"bp-{at}") for at in range(1_500)]
    # The first are created again at the end: by then they were forgotten.
    for jobs in (made[:500], made[500:1_000], made[1_000:], [world.new_job(owner="owner-0", blueprint="bp-0")]):
        await world.storage.create_jobs(jobs, 0)
    for new in (made[0], made[999], made[1_000], made[-1]):
        page, _ = await world.storage.jobs(JobFilter(owner=new.job.owner), 10)
        assert {one.job.blueprint for one in page} == {new.job.blueprint}


async def test_a_job_goes_to_one_of_many_nodes(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    jobs = [await first.create() for _ in range(20)]
    claims = await asyncio.gather(*(world.storage.claim(2) for world in (first, second) * 5))
    assert sorted(claim.job.id for some in claims for claim in some) == sorted(jobs)


async def test_a_task_is_leased_to_a_worker_of_another_node_which_is_woken_for_it(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand, hints = await second.hand(), hints_of(second.storage)
    task = await first.dispatch()
    await heard(hints, lambda hint: T.key in hint.keys)
    [offer] = await second.lease(hand.seat())
    assert offer.task_id == task
    assert await first.complete(offer) is None
    assert await second.ready() == [offer.job_id]


async def test_a_node_that_wanted_more_is_woken_when_another_leaves_a_job(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    assert await second.ready() == []
    hints = hints_of(second.storage)
    job = await first.create()
    await heard(hints, lambda hint: hint.ready)
    assert await second.ready() == [job]


async def test_a_stop_is_taken_by_the_node_of_the_worker(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await second.hand()
    offer = await second.accepted(hand)
    hints = hints_of(second.storage)
    await first.append(offer.job_id, Woken(9))
    ended = first.step(await first.claim_of(offer.job_id), Status.FAILED, end_tasks=True)
    await first.commit(ended)
    await heard(hints, lambda hint: hint.stops)
    assert await first.stops() == []
    assert [(stop.lease, stop.reason) for stop in await second.stops()] == [(hand.ref(offer), StopReason.CANCELLED)]


async def test_the_node_of_a_session_that_was_replaced_is_told_by_which_process(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await second.hand()
    hints = hints_of(second.storage)
    await first.storage.open_session(Opening("w1", "newer", 1, instance_id="a process: 1"))
    await heard(hints, lambda hint: hint.stops)
    assert (await first.touch()).replaced == ()
    assert (await second.touch()).replaced == (Replaced(hand.session_id, "newer", "a process: 1"),)
    assert (await second.touch()).replaced == ()


async def test_that_a_session_was_replaced_is_told_though_the_reply_that_says_so_is_lost(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand = await world.hand()
    opening = Opening("w1", "newer", 1)
    await world.storage.open_session(opening)
    assert (await world.storage.open_session(opening)).replaced is None
    assert (await world.touch()).replaced == (Replaced(hand.session_id, "newer", ""),)


async def test_a_watched_job_that_changes_at_another_node_is_hinted_at(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    job = await first.create()
    await second.storage.watch(job)
    hints = hints_of(second.storage)
    await first.append(job, Woken(1))
    await heard(hints, lambda hint: job in hint.jobs)


async def test_a_document_that_changed_at_another_node_is_hinted_at_and_read(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hints = hints_of(second.storage)
    version = await first.storage.put_document("keys", "a", b"1", version=0)
    assert (await heard(hints, lambda hint: hint.documents)).documents == {"keys"}
    assert await second.storage.document("keys", "a") == Document("keys", "a", version or 0, b"1")
    assert await second.storage.put_document("keys", "a", b"2", version=0) is None


async def test_windows_and_quotas_are_exact_over_all_nodes(nodes: Nodes) -> None:
    worlds = [await nodes.add(name) for name in "abc"]
    counted = await asyncio.gather(
        *(world.storage.count([Count("ann", 1, 10, 60_000)] * 3) for world in worlds for _ in range(4))
    )
    assert sum(one.granted for answer in counted for one in answer) == 10
    quota = Quota("ann", 10, "2026-11", nodes.clock.now_ms() + 60_000)
    created = await asyncio.gather(
        *(
            world.storage.create_jobs([replace(world.new_job(), quota=quota) for _ in range(3)], 0)
            for world in worlds
            for _ in range(4)
        )
    )
    assert sum(what is Creation.CREATED for one in created for _, what in one.jobs) == 10
    assert [await world.quota_used("ann", "2026-11") for world in worlds] == [10, 10, 10]


async def test_a_window_leaves_nothing_behind(nodes: Nodes) -> None:
    world = await nodes.add("a")
    await world.storage.count([Count("ann", 1, 10, 60_000), Count("bob", 0, 10, 60_000)])
    async with nodes.redis() as redis:
        [key] = await redis.keys("{h:r}:n:*")
        assert 0 < await redis.pttl(key) <= 60_000


async def test_an_earlier_timer_is_told_to_every_node(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hints = hints_of(second.storage)
    await first.dispatch(dispatch_timeout=1_000)
    await heard(hints, lambda hint: hint.due is not None and hint.due <= first.now + 1_000)


async def test_the_jobs_of_a_node_that_fell_silent_go_to_another(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    claim = await first.start()
    nodes.clock.advance(first.settings.claim)
    [again] = (await second.fire(want=1)).claims
    assert (again.job.id, again.deliveries) == (claim.job.id, 2)
    assert (await first.finish(claim)).conflict
    assert not (await second.finish(again)).conflict


class Wall(ManualClock):
    """A clock as a server has it: whoever sets it may set it back."""

    def step(self, ms: int) -> None:
        self._now_ms += ms


async def test_i6_time_goes_on_though_the_servers_clock_was_set_back_or_leaps(nodes: Nodes) -> None:
    nodes.clock = wall = Wall()
    first, second = await nodes.add("a"), await nodes.add("b")
    wall.step(3_600_000)
    claim = await first.start()
    # It was an hour ahead for that moment; then it is of a machine that starts without a clock, which is put right.
    for leap in (-3_600_000, -(10**12), 10**12):
        wall.step(leap)
        assert await first.keep(claim) == [True]
        for _ in range(first.settings.claim // 1_000 - 1):
            wall.step(1_000)
            assert not (await second.fire(want=1)).claims
        wall.step(1_000)
        [again] = (await second.fire(want=1)).claims
        assert again.job.id == claim.job.id
        first, second, claim = second, first, again


async def test_a_node_that_starts_again_takes_back_only_what_was_its_own(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    mine, other = await first.start(), await second.start()
    again = await nodes.add("a")
    assert await second.keep(other) == [True]
    with pytest.raises(StoreUnavailable, match="INSTANCE_ID"):
        await first.keep(mine)
    assert await again.ready() == [mine.job.id]


async def test_of_two_processes_of_one_name_the_earlier_ends_and_does_not_come_again(nodes: Nodes) -> None:
    first, later = await nodes.add("a"), await nodes.add("a")
    with pytest.raises(StoreUnavailable):
        await first.ready()
    async with asyncio.timeout(GUARD):
        with pytest.raises(StoreUnavailable, match=r"another process runs as a .* INSTANCE_ID"):
            await first.storage.failure()
    # Its connection is lost as any may be, and is its own all the same.
    async with nodes.redis() as redis:
        await redis.client_kill_filter(_type="normal", skipme=True)
    assert await later.ready() == []


async def test_a_suspect_does_not_keep_other_nodes_from_their_work(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    suspect = await first.create()
    await first.claim_of(suspect)
    await first.after(first.settings.claim)
    assert await first.ready() == [suspect]
    job = await second.create()
    assert await first.ready() == []
    assert await second.ready() == [job]


async def test_sessions_of_a_node_that_is_away_get_nothing_and_go_on_when_it_is_back(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await first.hand()
    nodes.clock.advance(60_000)
    await look(second, watchful=True)
    await second.dispatch()
    assert await first.lease(hand.seat()) == []
    await look(first)
    assert len(await first.lease(hand.seat())) == 1


async def test_a_node_that_is_gone_for_good_leaves_nothing(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    await first.hand()
    await first.storage.watch(await first.create())
    await first.ready()
    await first.after(first.settings.claim)
    nodes.clock.advance(2 * 86_400_000)
    await look(second, watchful=True)
    async with nodes.redis() as redis:
        assert await redis.exists("{h:0}:w:w1", "{h:0}:sessions:a", "{h:0}:watched") == 0
        assert [consumer["name"] for consumer in await redis.xinfo_consumers("{h:0}:suspects", "holon")] == []


# The server ---------------------------------------------------------------------------------------------------------


async def test_code_that_the_server_has_forgotten_is_loaded_again(nodes: Nodes) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.script_flush()
        if (await redis.info("server"))["redis_version"] >= "7":
            await redis.function_flush()
    created = await asyncio.gather(*(world.create() for _ in range(5)))
    assert sorted(await world.ready()) == sorted(created)


async def test_code_that_the_server_forgets_again_at_once_is_loaded_once_more(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await nodes.add("a")
    forgets = [True, True]
    for kind in (code.Functions, code.Scripts):

        async def load(self: Any, connection: Any, load: Any = kind.load) -> None:
            await load(self, connection)
            if forgets and forgets.pop():
                await ask(connection, ("FUNCTION", "FLUSH"), ("SCRIPT", "FLUSH"))

        monkeypatch.setattr(kind, "load", load)
    async with nodes.redis() as redis:
        await redis.script_flush()
        if (await redis.info("server"))["redis_version"] >= "7":
            await redis.function_flush()
    job_id = await world.create()
    assert not forgets
    assert await world.ready() == [job_id]


async def test_i1_a_short_outage_is_ridden_out_and_nothing_that_was_answered_is_lost() -> None:
    server = RedisServer(append_only=True)
    try:
        async with AsyncExitStack() as opened:
            world = await Nodes(server, opened).add("a")
            jobs = [await world.create() for _ in range(20)]
            server.kill()
            pending = [asyncio.create_task(world.create()) for _ in range(5)]
            await asyncio.sleep(0)
            server.start()
            jobs += await asyncio.gather(*pending)
            assert sorted(await world.ready()) == sorted(jobs)
            records, _ = await world.storage.jobs(JobFilter("ann"), 100)
            assert sorted(record.job.id for record in records) == sorted(jobs)
    finally:
        server.close()


async def test_a_store_that_stays_away_is_told_as_unavailable_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(lane, "RIDE_OUT_TO_CREATE_S", 0.5)
    server = RedisServer(append_only=True)
    try:
        async with AsyncExitStack() as opened:
            world = await Nodes(server, opened).add("a")
            claim = await world.start()
            server.kill()
            began = asyncio.get_running_loop().time()
            with pytest.raises(StoreUnavailable) as refused:
                await world.create()
            assert refused.value.retry_after
            assert asyncio.get_running_loop().time() - began < lane.RIDE_OUT_TO_CREATE_S + 2
            server.start()
            assert not (await world.finish(claim)).conflict
            said = [record.getMessage() for record in caplog.records if record.name == lane.log.name]
            assert said[-1].startswith("the store is there again, after ")
            # What becomes of it is told, each thing once: the connection is lost, then nobody listens.
            reasons = [one.partition(" calls wait: ")[2] for one in said[:-1]]
            assert 2 <= len(reasons) == len(set(reasons))
            assert not await world.ready()
            assert [record.getMessage() for record in caplog.records if record.name == lane.log.name] == said
    finally:
        server.close()


async def test_a_server_that_lost_the_store_is_not_taken_for_it(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    world = await nodes.add("a")
    job_id = await world.create()
    async with nodes.redis() as redis:
        await redis.flushdb()
    # Not that there is no such job.
    with pytest.raises(StoreUnavailable):
        await world.storage.job(job_id)
    async with asyncio.timeout(GUARD):
        with pytest.raises(StoreUnavailable, match="lost the store"):
            await world.storage.failure()
    # Who is started again there makes a new store, and says so; the next one finds it.
    made = "the Redis of STORAGE_URI held no store: a new one was made, and any job of before is gone"
    assert caplog.messages.count(made) == 1
    for _ in range(2):
        await nodes.add("b")
        assert caplog.messages.count(made) == 2


async def test_without_memory_new_jobs_are_refused_and_results_are_taken(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand: Hand = await world.hand()
    offer = await world.accepted(hand)
    async with nodes.redis() as redis:
        await redis.config_set("maxmemory", "100kb")
        try:
            with pytest.raises(StoreUnavailable, match="has no room: command not allowed"):
                await world.create()
            # Whoever starts or has to connect again can.
            await nodes.add("b")
            assert await world.complete(offer, OK) is None
            assert not (await world.finish(await world.claim_of(offer.job_id))).conflict
        finally:
            await redis.config_set("maxmemory", "0")


async def test_a_server_that_is_no_master_for_a_moment_is_waited_for(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        try:
            creating = asyncio.create_task(world.create())
            await until(lambda: "the store is away" in caplog.text, "the call was refused once")
        finally:
            await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    assert await creating


async def test_a_server_that_has_no_memory_and_forgot_its_code_is_given_scripts(nodes: Nodes) -> None:
    world = await nodes.add("a")
    offer = await world.accepted(await world.hand())
    async with nodes.redis() as redis:
        has_functions = (await redis.info("server"))["redis_version"] >= "7"
        await (redis.function_flush() if has_functions else redis.script_flush())
        await redis.config_set("maxmemory", "100kb")
        try:
            other = await nodes.add("b")
            assert await other.complete(offer, OK) is None
            assert not has_functions or await redis.function_list() == []
        finally:
            await redis.config_set("maxmemory", "0")


async def test_a_job_of_one_task_costs_two_calls_and_at_most_forty_commands(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand = await world.hand()

    async def run() -> None:
        new = with_step(world)
        assert new.step is not None
        made = await world.storage.create_jobs([new], 1, [hand.seat()])
        ended = unclaimed(world, new.step.job, Status.FINISHED)
        [offer] = made.leased.offers
        done = await world.storage.complete([Result(offer.task_id, offer.lease_id, OK, step=ended)], "w1", 1, ())
        assert done.landed

    async with nodes.redis() as redis:
        await run()
        await redis.config_resetstat()
        for _ in range(10):
            await run()
        stats = await redis.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    calls = counts.pop("fcall", 0) + counts.pop("evalsha", 0)
    # Both nodes and tests look around meanwhile, now and then.
    assert calls < 10 * 2 + 5
    assert sum(counts.values()) / calls < 40 / 2


async def test_a_list_reads_no_more_of_a_job_that_is_not_asked_for_than_its_row(nodes: Nodes) -> None:
    world = await nodes.add("a")
    for _ in range(5):
        await world.dispatch()
    async with nodes.redis() as redis:
        await redis.config_resetstat()
        for which in (
            JobFilter("ann", statuses=(Status.FAILED,)),
            JobFilter("ann", blueprint="another"),
            JobFilter("ann", created_after=world.now + 1),
            JobFilter("ann", created_before=1),
        ):
            assert await world.storage.jobs(which, 10) == ([], None)
        assert "cmdstat_get" not in await redis.info("commandstats")


async def test_jobs_that_few_ask_for_are_found_among_many(nodes: Nodes) -> None:
    world = await nodes.add("a")
    made = await world.storage.create_jobs([world.new_job() for _ in range(450)], 0)
    ids = [job_id for job_id, _ in made.jobs]
    wanted = ids[::37]
    for job_id in wanted:
        await world.finish(await world.claim_of(job_id))
    statuses = (Status.FINISHED, Status.FAILED)
    for limit in (1, 3, 120):
        assert await listed(world, limit, statuses=statuses) == wanted[::-1]


async def test_a_node_that_moves_history_where_others_keep_it_is_told_of(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "database of history" in record.getMessage()]

    await nodes.add("a")
    await nodes.add("b")
    assert told() == []
    await nodes.add("c", StoreSettings("c", history_backlog=10_000))
    [one] = told()
    assert one.startswith("this node has a database of history (HISTORY_DATABASE_URI), unlike a, b: ")
    await nodes.add("d")
    assert told()[1].startswith("this node has no database of history (HISTORY_DATABASE_URI), unlike c: ")


async def test_a_long_queue_is_read_in_pages_while_it_changes(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "KEPT", 300)
    world = await nodes.add("a")
    tasks = sorted([await world.dispatch() for _ in range(700)])
    read: list[str] = []
    while page := await world.storage.queued_tasks(T.key, read[-1] if read else "", 50):
        read += [task.id for task in page]
        await world.storage.rekey([(page[0].id, U)])
        left = next(task for task in reversed(tasks) if task not in read) if len(read) < 650 else None
        if left:
            await world.storage.rekey([(left, U)])
            tasks.remove(left)
    assert read == tasks


async def test_a_server_that_evicts_is_refused(nodes: Nodes) -> None:
    async with nodes.redis() as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ConfigError, match="noeviction"):
                await nodes.add("a")
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_server_that_begins_to_evict_is_given_no_new_jobs(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world = await nodes.add("a")
    assert isinstance(world.storage, RedisStorage)
    claim = await world.start()
    async with nodes.redis() as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            await world.storage._partitions.first.link._look(False)
            with pytest.raises(StoreUnavailable, match="maxmemory-policy allkeys-lru") as refused:
                await world.create()
            assert refused.value.retry_after
            assert not (await world.finish(claim)).conflict
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")
    await world.storage._partitions.first.link._look(False)
    await world.create()
    assert "the Redis of the store is given new jobs again" in caplog.messages


@pytest.mark.parametrize(("field", "value"), [("schema", 9), ("partitions", 4)])
async def test_a_store_of_another_release_or_shape_is_refused(nodes: Nodes, field: str, value: int) -> None:
    await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.hset("{h:0}:meta", field, str(value))
    with pytest.raises(ConfigError, match=str(value)):
        await nodes.add("b")


async def test_a_server_that_is_not_there_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        async with RedisStorage("unix:///nowhere/at/all"):
            pass


async def test_a_call_that_its_replicas_do_not_have_is_not_answered(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_server, "STRICT_PATIENCE_MS", 100)
    monkeypatch.setattr(lane, "RIDE_OUT_S", 0.3)
    with pytest.raises(StoreUnavailable):
        await nodes.add("a", replicas=1)


async def test_the_time_is_the_servers(nodes: Nodes) -> None:
    async with RedisStorage(nodes.uri, StoreSettings("a")) as storage, nodes.redis() as redis:
        await storage.claim(0)
        seconds, _ = await redis.time()
        assert abs(storage.now() - 1_000 * seconds) < 5_000


async def test_a_password_opens_the_store_and_nothing_else_does(tmp_path: Path) -> None:
    server = RedisServer(options=("--requirepass", "s3cr3t"))
    try:
        with pytest.raises(ConfigError) as refused:
            async with RedisStorage(server.uri(), StoreSettings("a")):
                pass
        assert "s3cr3t" not in str(refused.value)
        known = RedisStorage(server.uri().replace("unix://", "unix://:s3cr3t@"), StoreSettings("a"))
        async with known as storage:
            assert await storage.claim(1) == ()
        assert "s3cr3t" not in repr(known)
    finally:
        server.close()


async def test_a_job_that_a_node_has_no_key_for_is_given_back_to_those_that_have_it(nodes: Nodes) -> None:
    old, new = bytes(range(32)), bytes(range(1, 33))
    able = await nodes.add("a", seal=Seal([new, old]))
    unable = await nodes.add("b", StoreSettings("b", claim=100), seal=Seal([old]))
    job = await able.create(data={"n": 1})
    hints = hints_of(able.storage)
    assert await able.storage.claim(0) == ()
    assert await unable.storage.claim(1) == ()
    assert await able.storage.claim(1) == ()
    await heard(hints, lambda hint: hint.ready)
    [claim] = await able.storage.claim(1)
    assert (claim.job.id, claim.job.initial_data, claim.deliveries) == (job, {"n": 1}, 1)
    with pytest.raises(StoreUnavailable, match="ENCRYPTION_KEY_FILE") as unknown:
        await unable.storage.job(job)
    assert unknown.value.code == "ENCRYPTION_KEY_UNKNOWN"


async def test_a_node_that_ends_gives_back_nothing_later(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    able = await nodes.add("a", seal=Seal([bytes(range(32))]))
    await able.create()
    loop = asyncio.get_running_loop()
    call_later, timers = loop.call_later, list[asyncio.TimerHandle]()

    def noted(*given: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*given, **more))
        return timers[-1]

    settings = StoreSettings("b", claim=600_000)
    async with RedisStorage(nodes.uri, settings, nodes.clock, seal=Seal()) as unable:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_later", noted)
            assert await unable.claim(1) == ()
        [later] = [one for one in timers if one.when() > loop.time() + 200]
    assert later.cancelled()


async def test_a_task_that_a_node_has_no_key_for_is_not_offered_by_it(nodes: Nodes) -> None:
    able, unable = await nodes.add("a", seal=Seal([bytes(range(32))])), await nodes.add("b", seal=Seal())
    task = await able.dispatch()
    assert await unable.storage.queued_tasks(T.key, "", 5) == []
    hand = await unable.hand("w1", 5)
    assert await unable.lease(hand.seat(5)) == []
    assert await able.waiting() == 0
    await able.after(unable.settings.offer + 1)
    assert [one.id for one in await able.storage.queued_tasks(T.key, "", 5)] == [task]
