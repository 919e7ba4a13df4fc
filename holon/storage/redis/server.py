"""A connection to the server, and what the server must be like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from holon.domain.value import Value
from holon.errors import ConfigError
from holon.storage.redis.packing import packed

log = logging.getLogger(__name__)

OLDEST = (7, 2)
# A server that does not answer for so long is taken for lost.
PATIENCE_S = 5.0
# Replicas and the disk have so long, which is less.
STRICT_PATIENCE_MS = 2_000
# With any other policy a server drops what it has no room for.
KEEPS = "noeviction"
# New jobs are refused when so much of the memory is taken: the rest is for those that are there.
FULL = 0.9

# What the user of STORAGE_URI must be allowed to do; docs/redis.md says when it needs more.
RIGHTS = (
    "~{h:* &* -@all +@read +@write +@connection +@pubsub +fcall +function|list +function|load "
    "+select +info +role +time +acl|dryrun"
)


Connection: TypeAlias = AbstractConnection


class Strictness(Value):
    """What must have become of a call before it is answered: how many replicas have it, and whether on the disk."""

    replicas: int = 0
    synced: bool = False

    def question(self) -> tuple[Any, ...] | None:
        """The command that waits for it; None when there is nothing to wait for."""
        if self.synced:
            return ("WAITAOF", 1, self.replicas, STRICT_PATIENCE_MS)
        return ("WAIT", self.replicas, STRICT_PATIENCE_MS) if self.replicas else None

    def met(self, reply: Any) -> bool:
        """Whether the reply to that says so."""
        if self.synced:
            return bool(reply[0] >= 1 and reply[1] >= self.replicas)
        return bool(reply >= self.replicas)


class Place(Protocol):
    """Where a partition is: one server, or whichever of a Redis Cluster has its slot."""

    @property
    def clustered(self) -> bool:
        """Whether it is in a Redis Cluster."""
        ...

    async def connect(self) -> Connection:
        """A new connection; raises RedisError or OSError when there is none to be had."""
        ...


class Server:
    """Where a server is, and how to get there.

    Arguments:
        uri: `redis://`, `rediss://` or `unix://`, with what the client library takes in its query.
    Raises:
        ConfigError: the URI is none of these.
    """

    clustered = False

    def __init__(self, uri: str) -> None:
        self._pool = pool_of(uri)

    def __repr__(self) -> str:
        shown = self._pool.connection_kwargs
        return f"Server({shown.get('host') or shown.get('path')}, db={shown.get('db', 0)})"

    async def connect(self) -> Connection:
        """A new connection; raises RedisError or OSError when there is none to be had."""
        return await connected(self._pool)


def pool_of(uri: str) -> ConnectionPool:
    """What makes connections to a server; raises ConfigError, which shows nothing of it, when the URI names none."""
    try:
        parts = urlsplit(uri)
        if parts.netloc and "@" not in parts.netloc and "@" in uri:
            raise ValueError("the client library would take what is before / in the password for the host")
        # Only the store repeats a call: it knows which may be.
        return ConnectionPool.from_url(
            uri,
            protocol=2,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        # What the parser says may show a part of the password.
        raise ConfigError(
            "STORAGE_URI names no Redis: it is redis://user:password@host:port/database, or unix:///path/to/socket, "
            "with what is special in its parts percent-encoded"
        ) from None


async def connected(pool: ConnectionPool) -> Connection:
    """A new connection; raises RedisError or OSError when there is none to be had."""
    connection: Connection = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        with _closed_is_lost(), _cancel_is_heard():
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


@contextmanager
def _closed_is_lost() -> Iterator[None]:
    """A connection that was closed while it was being used is lost; uvloop says RuntimeError of it."""
    try:
        yield
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        raise RedisConnectionError(f"the connection was closed: {error}") from error


@contextmanager
def _cancel_is_heard() -> Iterator[None]:
    """The client library sends with `asyncio.wait_for`, which may swallow a cancel before Python 3.12."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    yield
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


async def say(connection: Connection, *commands: tuple[Any, ...]) -> None:
    """Send some commands; raises RedisError or OSError when the connection is lost."""
    with _closed_is_lost(), _cancel_is_heard():
        await connection.send_packed_command([packed(one) for one in commands], check_health=False)


async def ask(connection: Connection, *commands: tuple[Any, ...]) -> list[Any]:
    """The replies to some commands, in one round trip; an error of one of them is its reply."""
    await say(connection, *commands)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def explained(error: Exception) -> str:
    """The text of an error; if the server's ACL refused a command, also the rights that the user needs."""
    text = str(error)
    if "permission" not in text.lower():
        return text
    return f"{text}; give the user of STORAGE_URI the rights that docs/redis.md lists: {RIGHTS}"


async def check_server(connection: Connection, strictness: Strictness, clustered: bool) -> bool:
    """Check that a server can hold a store. Returns whether it keeps a log of its writes (`appendonly`).

    Arguments:
        clustered: whether it is to be a node of a Redis Cluster.
    Raises:
        ConfigError: it is too old, would drop what it has no room for, cannot be as strict, or is clustered and should
            not be, or the other way round.
        RedisError: it does not say.
    """
    [info] = await ask(connection, ("INFO",))
    if isinstance(info, RedisError):
        raise info
    facts = _facts(info)
    text = facts.get("redis_version", "0")
    version = tuple(int(part) for part in text.split(".") if part.isdecimal())
    if version < OLDEST:
        raise ConfigError(f"the Redis of STORAGE_URI is {text}; the store needs 7.2 or newer")
    if (facts.get("cluster_enabled") == "1") != clustered:
        raise ConfigError(
            "the Redis of STORAGE_URI is no Redis Cluster; name it as redis://host:port"
            if clustered
            else "the Redis of STORAGE_URI is a Redis Cluster; name it as redis+cluster://host:port,host:port"
        )
    if (policy := _policy(facts)) != KEEPS:
        raise ConfigError(
            f"the Redis of STORAGE_URI has maxmemory-policy {policy}, which loses jobs; set it to {KEEPS}"
        )
    appends = facts.get("aof_enabled") == "1"
    if strictness.synced and not appends:
        raise ConfigError("synced=true needs appendonly yes in the settings of the Redis of STORAGE_URI")
    if not appends:
        log.warning("the Redis of the store has appendonly off: what it was told last is lost when it crashes")
    return appends


def objection_of(info: Any) -> str:
    """Why a server should be given no new jobs, as it says under INFO memory; empty where it may."""
    facts = _facts(info)
    if (policy := _policy(facts)) != KEEPS:
        return (
            f"the Redis of STORAGE_URI has maxmemory-policy {policy} now, which loses jobs; new jobs wait until it is "
            f"{KEEPS} again"
        )
    most = int(facts.get("maxmemory", "0"))
    taken = int(facts.get("used_memory", "0")) / most if most else 0
    if taken >= FULL:
        return f"the Redis of the store has {taken:.0%} of its maxmemory taken; new jobs wait for room"
    return ""


def _policy(facts: Mapping[str, str]) -> str:
    return facts.get("maxmemory_policy", KEEPS)


def _facts(info: bytes | Mapping[str, Any]) -> dict[str, str]:
    if isinstance(info, Mapping):
        return {str(name): str(value) for name, value in info.items()}
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
