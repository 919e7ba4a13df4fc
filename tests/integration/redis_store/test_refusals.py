"""A Redis that cannot hold a store, or cannot take any more: what is wrong is told, and nothing is lost by it."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from redis.asyncio import Redis

from holon.clock import ManualClock
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage
from holon.stores import redis_servers
from tests.contract.backends import REDIS
from tests.contract.world import OK, World
from tests.e2e.processes import until
from tests.redis_server import RedisServer, binaries

COMMAND = re.compile(r"'([A-Z]+)'")
PAGE = Path(__file__).parents[3] / "docs" / "redis.md"


async def told(uri: str) -> str:
    """What is said of a store that does not open."""
    with pytest.raises(ConfigError) as refused:
        async with RedisStorage(uri, StoreSettings("a")):
            pass
    return refused.value.message


async def test_a_wrong_password_is_told_and_not_shown(server: RedisServer) -> None:
    async with Redis.from_url(server.uri()) as redis:
        await redis.execute_command("ACL", "SETUSER", "holon", "on", ">s3cr3t", "~*", "&*", "+@all")  # type: ignore[no-untyped-call]
    said = await told(server.uri().replace("unix://", "unix://holon:wr0ng@"))
    assert "invalid username-password" in said
    assert "wr0ng" not in said


async def test_a_user_who_may_not_touch_the_stores_keys_is_told_so(server: RedisServer) -> None:
    async with Redis.from_url(server.uri()) as redis:
        await redis.execute_command("ACL", "SETUSER", "other", "on", ">s3cr3t", "~other:*", "+@all")  # type: ignore[no-untyped-call]
    said = await told(server.uri().replace("unix://", "unix://other:s3cr3t@"))
    assert said.startswith("the Redis of STORAGE_URI refused a command: ")
    assert "permission" in said
    assert said.endswith(f"give the user of STORAGE_URI the rights that docs/redis.md lists: {rights_on_the_page()}")


def rights_on_the_page() -> str:
    """The rights that the page says are enough."""
    [line] = [one for one in PAGE.read_text(encoding="utf-8").splitlines() if "ACL SETUSER holon" in one]
    return line.partition(">PASSWORD ")[2]


async def user(server: RedisServer, *rights: str) -> str:
    """The URI of a user who has these rights alone, in a database that nobody has used."""
    async with Redis.from_url(server.uri()) as redis:
        command = ("ACL", "SETUSER", "narrow", "reset", "on", ">s3cr3t", *" ".join(rights).split())
        await redis.execute_command(*command)  # type: ignore[no-untyped-call]
    return server.uri(server.database()).replace("unix://", "unix://narrow:s3cr3t@")


async def test_the_rights_that_the_page_lists_are_enough(server: RedisServer, tmp_path: Path) -> None:
    uri = await user(server, rights_on_the_page())
    world = World(REDIS, tmp_path, {})
    world.clock, world.settings = ManualClock(), StoreSettings("a")
    async with RedisStorage(uri, world.settings, world.clock) as world.storage:
        offer = await world.accepted(await world.hand())
        assert await world.complete(offer, OK) is None
        assert not (await world.finish(await world.claim_of(offer.job_id))).conflict
        assert await world.storage.purge(world.now + 1, 10) == 1
        assert await world.storage.documents("keys") == []


async def refusal(server: RedisServer, tmp_path: Path, *rights: str) -> str:
    """The first error of a node whose user has these rights, from its start to the end of a job."""
    world = World(REDIS, tmp_path, {})
    world.clock, world.settings = ManualClock(), StoreSettings("a")
    try:
        async with RedisStorage(await user(server, *rights), world.settings, world.clock) as world.storage:
            await world.finish(await world.start())
            await world.storage.documents("keys")
    except (ConfigError, StoreUnavailable) as error:
        return error.message
    return ""


@pytest.mark.parametrize("lacking", ["zadd", "hgetall", "fcall"])
async def test_a_command_that_the_user_may_not_run_is_named_with_the_rights_to_give(
    server: RedisServer, tmp_path: Path, lacking: str
) -> None:
    said = await refusal(server, tmp_path, rights_on_the_page(), f"-{lacking}")
    assert f"'{lacking}' command" in said
    assert f"give the user of STORAGE_URI the rights that docs/redis.md lists: {rights_on_the_page()}" in said


@asynccontextmanager
async def logging_server(place: Path, default: str, lacking: str = "") -> AsyncIterator[tuple[RedisServer, str]]:
    """A server with a log, whose user `default` has these rights, and a URI for a node, which may lack a right."""
    rights = rights_on_the_page().replace(lacking, "")
    users = place / "users.acl"
    users.write_text(f"user default {default}\nuser node on >s3cr3t {rights}\n")
    server = RedisServer(append_only=True, options=("--aclfile", str(users)))
    uri = server.uri().replace("unix://", "unix://node:s3cr3t@")
    try:
        yield server, uri
    finally:
        server.close()


@pytest.mark.parametrize(
    ("default", "named"),
    [("off", "HDEL, HINCRBY"), ("off ~{holon* +@write -zadd", "ZADD"), ("off ~other:* +@write", "HDEL")],
)
async def test_a_server_that_would_not_read_its_log_back_is_told_at_the_start(
    tmp_path: Path, default: str, named: str
) -> None:
    async with logging_server(tmp_path, default) as (_, uri):
        said = await told(uri)
    assert "STORAGE_URI" in said
    assert f"the rights of its user default, who may not run {named}" in said


async def test_with_the_rights_that_the_page_gives_to_default_the_log_is_read_back(tmp_path: Path) -> None:
    [given] = {
        line.partition("ACL SETUSER default ")[2] for line in PAGE.read_text().splitlines() if "R default" in line
    }
    async with logging_server(tmp_path, given) as (server, uri):
        world = World(REDIS, tmp_path, {})
        world.clock, world.settings = ManualClock(), StoreSettings("a")
        async with RedisStorage(uri, world.settings, world.clock) as world.storage:
            offer = await world.accepted(await world.hand())
            assert await world.complete(offer, OK) is None
            server.kill()
            server.start()
            assert not (await world.finish(await world.claim_of(offer.job_id))).conflict


async def test_what_would_be_lost_of_a_log_is_all_that_functions_write(server: RedisServer) -> None:
    library = files("holon.stores").joinpath("holon.lua").read_text(encoding="utf-8")
    async with Redis.from_url(server.uri()) as redis:
        known = await redis.command()
    called = {name: known.get(name.lower(), {"flags": ()}) for name in COMMAND.findall(library)}
    writes = {name for name, info in called.items() if "write" in info["flags"]}
    assert {name for name, *_ in redis_servers.WRITES} == writes


async def test_of_a_server_that_does_not_say_what_it_would_read_back_the_log_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with logging_server(tmp_path, "off", " +acl|dryrun") as (_, uri), RedisStorage(uri, StoreSettings("a")):
        pass
    assert "the Redis of STORAGE_URI held no store, so a new one was made" in caplog.text
    assert "does not say whether its user default may run what its log holds" in caplog.text


async def test_a_server_that_is_too_old_is_told_with_the_version_that_is_needed(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_servers, "OLDEST", (999,))
    said = await told(server.uri(server.database()))
    assert said.startswith("the Redis of STORAGE_URI is ")
    assert said.endswith("; the store needs 7.2 or newer")


@asynccontextmanager
async def on_a_disk(place: Path) -> AsyncIterator[tuple[World, RedisServer]]:
    """A node whose Redis writes to a disk that can be made full."""
    # It must learn from its write that there is no room, and not be ended by a signal.
    patient = place / "patient-redis"
    patient.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {binaries()[0]} \"$@\"\n")
    patient.chmod(0o700)
    server = RedisServer(str(patient), append_only=True, options=("--appendfsync", "everysec"))
    world = World(REDIS, place, {})
    world.clock, world.settings = ManualClock(), StoreSettings("a")
    try:
        async with RedisStorage(server.uri(), world.settings, world.clock) as world.storage:
            yield world, server
    finally:
        server.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can change another process's limits")
async def test_with_its_disk_full_calls_are_refused_and_go_on_when_there_is_room(tmp_path: Path) -> None:
    async with on_a_disk(tmp_path) as (world, server):
        claim = await world.start()
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

        refusals: list[StoreUnavailable] = []

        async def refused() -> bool:
            try:
                await world.create()
            except StoreUnavailable as error:
                refusals.append(error)
            return bool(refusals)

        await until(refused, "a new job is refused")
        assert "MISCONF" in refusals[0].message
        assert refusals[0].retry_after
        with pytest.raises(StoreUnavailable, match="MISCONF"):
            await world.finish(claim)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        async def taken() -> bool:
            try:
                return not (await world.finish(claim)).conflict
            except StoreUnavailable:
                return False

        await until(taken, "there is room again")

        async def written() -> bool:
            # With `everysec` it answers first, and writes up to two seconds later where its disk is busy.
            async with Redis.from_url(server.uri()) as redis:
                return not (await redis.info("persistence"))["aof_buffer_length"]

        await until(written, "what was answered is in the file")
        server.kill()
        server.start()
        assert (await world.record(claim.job.id)).job.status.terminal
