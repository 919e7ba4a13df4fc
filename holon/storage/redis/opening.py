"""Finding the store at a node's start: what it was made for, and that all of it is there. The first node makes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from holon.errors import ConfigError
from holon.randomness import random_id
from holon.storage.redis.keys import SHARED, Keys
from holon.storage.redis.lane import passes
from holon.storage.redis.replay import check_replay
from holon.storage.redis.scripts import functions
from holon.stores.records import schema as records
from holon.stores.redis_servers import Connection, Place, Strictness, ask, check_server, explained

log = logging.getLogger(__name__)

# What the keys of this release look like; a store of another schema is refused.
SCHEMA = 4
# What passes, as a slot that moves to another server, is waited for.
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 1.6)


@dataclass(frozen=True, slots=True)
class Found:
    """A partition of the store: its id, and the last time written there."""

    id: str
    time: int


async def find_store(servers: Sequence[Place], strictness: Strictness) -> list[Found]:
    """All partitions of the store.

    Arguments:
        servers: where each partition is.
    Raises:
        ConfigError: a server cannot be reached, is too old or set up to lose data, or holds another store.
    """
    count = len(servers)
    new = random_id()
    first, whole = await _find(servers[0], 0, count, new, strictness, make=True)
    if first.id == new:
        # Whoever starts nodes again when they end does so too where Redis came back with nothing.
        log.warning("the Redis of STORAGE_URI held no store: a new one was made, and any job of before is gone")
    found = [first]
    for at in range(1, count):
        expected = partition_id(first.id, at)
        one, _ = await _find(servers[at], at, count, expected, strictness, make=not whole)
        if one.id != expected:
            raise ConfigError(
                f"partition {at} of the store in the Redis of STORAGE_URI is gone, or another store's; restore the "
                "store from its backup first"
            )
        found.append(one)
    if count > 1 and not whole:
        await _asked(servers[0], ("HSET", Keys(0).meta, "whole", 1))
    return found


def partition_id(store: str, partition: int) -> str:
    """The id of a partition of a store."""
    return f"{store}.{partition}" if partition else store


def _hint(error: Exception) -> str:
    """What to look at where somebody listens, it seems, and breaks off or says nothing."""
    before = error.__cause__ or error.__context__
    broken_off = isinstance(before, ConnectionResetError | BrokenPipeError) or str(error).startswith(
        "Connection closed"
    )
    if broken_off or isinstance(error, RedisTimeoutError):
        return (
            "; see whether it speaks TLS as the URI says (rediss:// or redis://), and asks for a certificate "
            "(ssl_certfile, ssl_keyfile)"
        )
    return ""


async def _find(
    server: Place, partition: int, count: int, new_id: str, strictness: Strictness, *, make: bool
) -> tuple[Found, bool]:
    """A partition, and whether all of its store is known to have been made."""
    try:
        for pause in (*PAUSES_S, None):
            try:
                known = await _started(server, Keys(partition), count, new_id, strictness, make=make)
                break
            except ResponseError as error:
                if pause is None or not passes(error):
                    raise
            await asyncio.sleep(pause)
    except ResponseError as error:
        raise ConfigError(f"the Redis of STORAGE_URI cannot hold a store: {explained(error)}") from error
    except (RedisError, OSError) as error:
        raise ConfigError(
            f"the Redis of STORAGE_URI cannot be reached: {str(error).rstrip('.')}{_hint(error)}"
        ) from error
    store, schema, partitions, time, newest, whole = known
    if store is None:
        return Found("", 0), False
    if int(schema) != SCHEMA:
        raise ConfigError(
            f"the store in the Redis of STORAGE_URI is of schema {int(schema)}, and this release reads {SCHEMA}: start "
            "the release that made it, or start anew with an empty database in STORAGE_URI"
        )
    if int(partitions) != count:
        raise ConfigError(
            f"the store in the Redis of STORAGE_URI was made with partitions={int(partitions)}, which stays; "
            f"STORAGE_URI says partitions={count}"
        )
    if int(newest) > records.SCHEMA:
        raise ConfigError(
            f"the store in the Redis of STORAGE_URI has records of schema {int(newest)}, and this release reads "
            f"{records.SCHEMA} at most; start the newer release, of which a node has been here"
        )
    return Found(store.decode(), int(time)), whole is not None


async def _started(
    server: Place, keys: Keys, count: int, new_id: str, strictness: Strictness, *, make: bool
) -> Sequence[Any]:
    """What `start` answers at a server that has the library; raises RedisError or OSError."""
    connection = await server.connect()
    try:
        if await check_server(connection, strictness, server.clustered):
            await check_replay(connection, (keys.meta, SHARED.meta))
        await functions().load(connection)
        given = (*keys.declared, new_id, SCHEMA, count, records.SCHEMA, "1" if make else "")
        [known] = await ask(connection, (*functions().call("start"), *given))
        if isinstance(known, Exception):
            raise known
        return list(known)
    finally:
        await connection.disconnect(nowait=True)


async def _asked(server: Place, command: tuple[Any, ...]) -> None:
    connection: Connection = await server.connect()
    try:
        [reply] = await ask(connection, command)
    finally:
        await connection.disconnect(nowait=True)
    if isinstance(reply, RedisError):
        raise ConfigError(f"the Redis of STORAGE_URI cannot hold a store: {explained(reply)}") from reply
