"""A store in Redis whose keys an older release wrote: the first node of this one writes them anew, and goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from holon.clock import ManualClock
from holon.domain.events import Woken
from holon.domain.job import Status
from holon.domain.value import replace
from holon.errors import ConfigError
from holon.ports import Creation, Result, StoreSettings
from holon.storage.redis import RedisStorage, opening
from holon.stores import redis_servers as server_module
from tests.contract.backends import REDIS
from tests.contract.world import OK, T, World
from tests.redis_server import RedisServer

# What a node of schema 2 left: its keys, and what is where.
OLD: dict[str, Any] = json.loads(Path(__file__).with_name("schema_2.json").read_text())
IDS = OLD["ids"]


def _bytes(texts: list[str]) -> list[bytes]:
    return [base64.b64decode(text) for text in texts]


async def restore(redis: Redis) -> None:
    """Put the old keys into a database."""
    for key, (kind, value) in OLD["keys"].items():
        match kind:
            case "hash":
                await redis.hset(key, items=_bytes(value))
            case "zset":
                await redis.zadd(key, {base64.b64decode(member): score for member, score in value})
            case "set":
                await redis.sadd(key, *_bytes(value))
            case "list":
                await redis.rpush(key, *_bytes(value))
            case "stream":
                await redis.xgroup_create(key, "holon", "0-0", mkstream=True)
                for entry, fields in value["entries"]:
                    await redis.xadd(key, dict(zip(_bytes(fields)[::2], _bytes(fields)[1::2], strict=True)), id=entry)
                for _, consumer in value["pending"]:
                    await redis.xreadgroup("holon", consumer, {key: ">"}, count=1)
            case _:
                raise AssertionError(f"a key of kind {kind}")


@pytest.fixture
async def database(each_server: RedisServer) -> str:
    uri = each_server.uri(each_server.database())
    async with Redis.from_url(uri) as redis:
        await restore(redis)
    return uri


@pytest.fixture
async def world(each_server: RedisServer, database: str) -> AsyncIterator[World]:
    """A node of this release, of the name that the old one had."""
    world = World(REDIS, each_server.socket, {})
    world.clock, world.settings = ManualClock(IDS["clock"]), StoreSettings("a")
    world._made = 1_000
    async with RedisStorage(database, world.settings, world.clock) as world.storage:
        yield world


async def end_the_suspect(world: World) -> None:
    """What the node had claimed was delivered before, so it is first, and runs alone."""
    claim = await world.claim_of(IDS["claimed"])
    assert (claim.deliveries, claim.events) == (2, ((1, Woken(0)),))
    assert not (await world.finish(claim)).conflict


async def test_what_is_over_reads_as_before(world: World) -> None:
    record = await world.record(IDS["finished"])
    assert (record.job.status, record.job.initial_data, record.created_at) == (Status.FINISHED, {"n": 1}, IDS["clock"])
    assert [event.type for event in await world.told(IDS["finished"])] == [
        "job_created",
        "state_finished",
        "job_completed",
    ]


async def test_a_repeated_request_finds_its_job(world: World) -> None:
    again = world.new_job(request_id="r\n1", digest=b"\x00\ndigest")
    made = await world.storage.create_jobs([again], 0)
    assert made.jobs == ((IDS["finished"], Creation.EXISTING),)


async def test_a_task_goes_on_under_its_lease(world: World) -> None:
    record = await world.record(IDS["leased"])
    assert (record.progress, record.progress_message) == (33.3, "a\nmessage")
    task = await world.task_record(IDS["task"])
    assert (task.state, task.params, task.lease_id, task.worker_id) == ("leased", b'{"a":1}', IDS["lease"], "w1")
    done = await world.storage.complete([Result(IDS["task"], IDS["lease"], replace(OK, worker_id="w1"))], "w1", 0, ())
    assert done.verdicts == (None,)
    await end_the_suspect(world)
    assert not (await world.finish(await world.claim_of(IDS["leased"]))).conflict
    assert (await world.told(IDS["leased"]))[-1].type == "job_completed"


async def test_a_fan_out_goes_on(world: World) -> None:
    [(branch, outcome)] = await world.storage.branches(IDS["fan"], 0)
    assert (branch, outcome.data) == (IDS["branch"], OK.data)
    assert await world.waiting(T) == IDS["n"] - 1
    hand = await world.hand("w2")
    offers = await world.lease(hand.seat(5))
    assert [await world.complete(offer) for offer in offers] == [None, None]
    await end_the_suspect(world)
    assert [event.failed for _, event in (await world.claim_of(IDS["fan"])).events] == [0]  # type: ignore[union-attr]


async def test_what_the_node_had_claimed_and_what_was_ready_is_claimed_again(world: World) -> None:
    await end_the_suspect(world)
    assert await world.ready() == [IDS["ready"]]


async def test_all_of_it_can_be_deleted(world: World, database: str) -> None:
    await world.storage.purge(IDS["clock"] + 1, 10)
    async with Redis.from_url(database) as redis:
        assert [key async for key in redis.scan_iter(f"*{IDS['finished']}*")] == []


async def test_an_upgrade_that_was_cut_short_is_gone_on_with(
    each_server: RedisServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = server_module.ask

    async def cut(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
        if "upgrade" in str(commands[0][1]) or commands[0][-3:-1] == (opening.SCHEMA, b"1"):
            await kept(connection, *commands)
            raise ConnectionError("cut")
        return await kept(connection, *commands)

    with monkeypatch.context() as patch:
        patch.setattr(opening, "ask", cut)
        async with Redis.from_url(database) as redis:
            # So many that they are not all in one part.
            fields: dict[Any, Any] = {"place": "over", "n": 1, "key": "k", "need": "n", "terms": "0 0 0 1 1"}
            for n in range(500):
                await redis.hset(f"{{h:0}}:t:0-x{n}-0-0", mapping=fields)
        with pytest.raises(ConfigError, match="cut"):
            async with RedisStorage(database, StoreSettings("a"), ManualClock(IDS["clock"])):
                pass
    async with Redis.from_url(database) as redis:
        assert await redis.hget("{h:0}:meta", "schema") == b"2"
        # Whoever knows only that schema finds no number to go on from, and writes nothing any more.
        assert await redis.hget("{h:0}:meta", "number") is None
        async with RedisStorage(database, StoreSettings("a"), ManualClock(IDS["clock"])) as storage:
            assert await storage.job(IDS["ready"]) is not None
        assert await redis.hget("{h:0}:meta", "schema") == b"3"
        kinds = {await redis.type(key) async for key in redis.scan_iter("{h:0}:[jtw]:*")}
        assert kinds == {b"string"}
