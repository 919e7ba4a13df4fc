"""Connections to Redis and Valkey: one server, the master that sentinels name, or the masters of a cluster."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from holon.domain.value import Value
from holon.errors import ConfigError
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)
# Each connection checks its server, and a node has many of them.
_seldom = Seldom(log)

OLDEST = (7, 2)
# A server that does not answer for so long is away (seconds).
TIMEOUT_S = 5.0
# Replicas and the disk may take so long, which is less (milliseconds).
WAIT_MS = 2_000
# With any other policy a server deletes rows when its memory is full.
POLICY = "noeviction"
# New jobs are refused when so much of maxmemory is used: the rest is for jobs that are under way.
FULL = 0.9
# How long the slowest sentinels are waited for once others have answered (seconds).
SENTINEL_S = 1.0

# What the user of STORAGE_URI must be allowed to do; docs/redis.md says when it needs more.
RIGHTS = (
    "~{holon* -@all +@read +@write +@connection +fcall +function|list +function|load +select +info +role +time "
    "+acl|dryrun"
)

# What functions write in transactions, as the log has it: the command, and what follows its key.
WRITES = (
    ("HDEL", "1"),
    ("HINCRBY", "1", "1"),
    ("HSET", "1", "1"),
    ("INCR",),
    ("SET", "1", "PXAT", "1"),
    ("UNLINK",),
    ("ZADD", "1", "1"),
    ("ZREM", "1"),
)

Connection: TypeAlias = AbstractConnection
# The words of a command, or their bytes as they are sent.
Command: TypeAlias = tuple[Any, ...] | bytes


class Strictness(Value):
    """What must have happened to a write before it is answered: how many replicas have it, and whether disks do."""

    replicas: int = 0
    synced: bool = False

    def question(self) -> Command | None:
        """The command that waits for it; None if there is nothing to wait for."""
        if self.synced:
            return ("WAITAOF", 1, self.replicas, WAIT_MS)
        return ("WAIT", self.replicas, WAIT_MS) if self.replicas else None

    def met(self, reply: Any) -> bool:
        """Whether the reply to that command says that it happened."""
        if self.synced:
            return bool(reply[0] >= 1 and reply[1] >= self.replicas)
        return bool(reply >= self.replicas)


class Place(Protocol):
    """Where some keys are: one server, or whichever master of a cluster has their slot."""

    @property
    def clustered(self) -> bool:
        """Whether it is in a cluster."""
        ...

    async def connect(self) -> Connection:
        """A new connection; raises RedisError or OSError if there is none to be had."""
        ...


class Server:
    """One server.

    Arguments:
        uri: `redis://`, `rediss://` or `unix://`, with the client library's options in its query.
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
        return await connected(self._pool)


class Sentinels:
    """The master of a service that sentinels watch.

    Arguments:
        uri: `redis+sentinel://[USER:PASSWORD@]HOST:PORT,.../SERVICE[/DATABASE]`, or `rediss+sentinel://`. The client
            library's options in the query, and the credentials, are for sentinels and servers alike.
    Raises:
        ConfigError: the URI is none of these.
    """

    SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
    clustered = False

    def __init__(self, uri: str) -> None:
        self._scheme, _, rest = uri.partition("+sentinel://")
        place, question, query = rest.partition("?")
        credentials, at, named = place.rpartition("@")
        hosts, _, path = named.partition("/")
        self._credentials = f"{credentials}{at}"
        self._service, _, database = path.partition("/")
        self._database = f"/{database or 0}"
        self._options = f"{question}{query}"
        self._hosts = hosts.split(",")
        for host in self._hosts:
            pool_of(self._uri(f"{self._credentials}{host}{self._database}"))

    def __repr__(self) -> str:
        return f"Sentinels({self._service}, {', '.join(self._hosts)})"

    async def connect(self) -> Connection:
        connection = await connected(pool_of(self._uri(f"{self._credentials}{await self._master()}{self._database}")))
        # A master that was replaced may not know it yet.
        [role] = await ask(connection, ("ROLE",))
        if isinstance(role, RedisError) or role[0] != b"master":
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(f"the server that the sentinels name for {self._service} is no master: {role}")
        return connection

    def _uri(self, place: str) -> str:
        return f"{self._scheme}://{place}{self._options}"

    async def _master(self) -> str:
        """The address that most sentinels name; of equal numbers, the first. Those that were cut off are outvoted."""
        asked = [asyncio.create_task(self._address_by(host), name="store-sentinel") for host in self._hosts]
        waiting = set(asked)
        address, votes = "", 0
        try:
            while waiting and 2 * votes <= len(asked):
                done, waiting = await asyncio.wait(waiting, timeout=SENTINEL_S, return_when=asyncio.FIRST_COMPLETED)
                answers = [one.result() for one in asked if one.done()]
                named = Counter(answer for answer in answers if isinstance(answer, str))
                [(address, votes)] = named.most_common(1) or [("", 0)]
                if votes and not done:
                    break
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not votes:
            raise RedisConnectionError(f"no sentinel names a master: {asked[-1].result()}")
        return address

    async def _address_by(self, host: str) -> str | Exception:
        """The master's address as one sentinel knows it, or why there is none."""
        try:
            try:
                found = await self._asked(host)
            except AuthenticationError:
                if not self._credentials:
                    raise
                found = await self._asked(f"{self._credentials}{host}")
        except (RedisError, OSError) as error:
            return error
        if not isinstance(found, list):
            unknown = RedisConnectionError(f"no master is known as {self._service}")
            return found if isinstance(found, RedisError) else unknown
        name, port = (part.decode() for part in found)
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    async def _asked(self, place: str) -> Any:
        connection = await connected(pool_of(self._uri(place)))
        try:
            [found] = await ask(connection, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        finally:
            await connection.disconnect(nowait=True)
        return found


class Cluster:
    """A cluster. Which master has a slot is asked anew for each connection.

    Arguments:
        uri: `redis+cluster://[USER:PASSWORD@]HOST:PORT,...` or `rediss+cluster://`, with the client library's options
            in the query. Some of the cluster's nodes are enough.
    Raises:
        ConfigError: the URI is none of these.
    """

    SCHEMES = ("redis+cluster://", "rediss+cluster://")

    def __init__(self, uri: str) -> None:
        scheme, _, rest = uri.partition("+cluster://")
        place, question, query = rest.partition("?")
        credentials, at, hosts = place.rstrip("/").rpartition("@")
        self._before, self._behind = f"{scheme}://{credentials}{at}", f"/0{question}{query}"
        self._named = hosts.split(",")
        self._known: list[str] = []
        for host in self._named:
            self._pool(host)

    def __repr__(self) -> str:
        return f"Cluster({', '.join(self._known or self._named)})"

    async def connect(self, slot: int) -> Connection:
        """A new connection to the master of a slot; raises RedisError or OSError if there is none to be had."""
        return await connected(self._pool(await self._master(slot)))

    def _pool(self, address: str) -> ConnectionPool:
        return pool_of(f"{self._before}{address}{self._behind}")

    async def _master(self, slot: int) -> str:
        said: object = "none answers"
        # A node that was cut off tells of what was, so not always the same one is asked.
        known = random.sample(self._known, len(self._known))
        for address in dict.fromkeys((*known, *self._named)):
            try:
                connection = await connected(self._pool(address))
            except (RedisError, OSError) as error:
                said = error
                continue
            try:
                [found] = await ask(connection, ("CLUSTER", "SLOTS"))
            except (RedisError, OSError) as error:
                found = error
            finally:
                await connection.disconnect(nowait=True)
            if not isinstance(found, list):
                said = found
                continue
            host = address.rpartition(":")[0] or address
            self._known = [_address(node, host) for _, _, *nodes in found for node in nodes] or self._known
            for first, last, master, *_ in found:
                if first <= slot <= last:
                    return _address(master, host)
            said = f"no master has slot {slot}"
        raise RedisConnectionError(f"the Redis Cluster cannot be asked where a slot is: {said}")


class Slot:
    """The master of a cluster that has a key's slot.

    Arguments:
        key: any key of the slot.
    """

    clustered = True

    def __init__(self, cluster: Cluster, key: str) -> None:
        self._cluster = cluster
        self._slot: int = key_slot(key.encode())

    def __repr__(self) -> str:
        return f"Slot({self._slot} of {self._cluster})"

    async def connect(self) -> Connection:
        return await self._cluster.connect(self._slot)


def _address(node: list[Any], asked: str) -> str:
    """The address of a cluster's node; a node that does not know its own is where it was asked."""
    host = node[0].decode() if node[0] and node[0] != b"?" else asked
    return f"[{host}]:{node[1]}" if ":" in host and not host.startswith("[") else f"{host}:{node[1]}"


def pool_of(uri: str) -> ConnectionPool:
    """What makes connections to a server; its retries are off. Raises ConfigError, which shows nothing of the URI."""
    try:
        parts = urlsplit(uri)
        if parts.netloc and "@" not in parts.netloc and "@" in uri:
            raise ValueError("the client library would take what is before / in the password for the host")
        return ConnectionPool.from_url(
            uri,
            protocol=2,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise ConfigError(
            "STORAGE_URI names no Redis: it is redis://user:password@host:port/database, or unix:///path/to/socket, "
            "with special characters percent-encoded"
        ) from None


async def connected(pool: ConnectionPool) -> Connection:
    """A new connection; raises RedisError or OSError if there is none to be had."""
    connection: Connection = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        with _closed_is_lost(), _cancel_is_heard():
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def say(connection: Connection, *commands: Command) -> None:
    """Send commands; raises RedisError or OSError if the connection is lost."""
    with _closed_is_lost(), _cancel_is_heard():
        await connection.send_packed_command([packed(one) for one in commands], check_health=False)


async def ask(connection: Connection, *commands: Command) -> list[Any]:
    """The replies to commands, in one round trip; an error of a command is its reply.

    Raises:
        RedisError, OSError: the connection is lost.
    """
    await say(connection, *commands)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def packed(command: Command) -> bytes:
    """A command as it is sent. Raises TypeError if a word is neither text, bytes nor a number."""
    return command if isinstance(command, bytes) else bytes(hiredis.pack_command(command))


@contextmanager
def _closed_is_lost() -> Iterator[None]:
    """uvloop raises RuntimeError for a connection that was closed while it was used."""
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


def explained(error: Exception) -> str:
    """The text of an error; if the server's ACL refused a command, also the rights that the user needs."""
    text = str(error)
    if "permission" not in text.lower():
        return text
    return f"{text}; give the user of STORAGE_URI the rights that docs/redis.md lists: {RIGHTS}"


def hint_of(error: BaseException | None) -> str:
    """What to look at if a server breaks off or says nothing; empty for any other error."""
    before = error and (error.__cause__ or error.__context__)
    broken_off = isinstance(before, ConnectionResetError | BrokenPipeError) or str(error).startswith(
        "Connection closed"
    )
    if broken_off or isinstance(error, RedisTimeoutError):
        return (
            "; see whether it speaks TLS as the URI says (rediss:// or redis://), and asks for a certificate "
            "(ssl_certfile, ssl_keyfile)"
        )
    return ""


async def check_server(connection: Connection, strictness: Strictness, clustered: bool, key: str) -> None:
    """Check that a server can hold a store.

    Arguments:
        clustered: whether it must be a node of a cluster.
        key: one of the keys that it has.
    Raises:
        ConfigError: it is too old, would delete rows when its memory is full, cannot be as strict, or is clustered and
            should not be, or the other way round.
        RedisError: it does not answer.
    """
    [info] = await ask(connection, ("INFO",))
    if isinstance(info, RedisError):
        raise info
    facts = _facts(info)
    text = facts.get("redis_version", "0")
    if tuple(int(part) for part in text.split(".") if part.isdecimal()) < OLDEST:
        raise ConfigError(f"the Redis of STORAGE_URI is {text}; the store needs 7.2 or newer")
    if (facts.get("cluster_enabled") == "1") != clustered:
        raise ConfigError(
            "the Redis of STORAGE_URI is no Redis Cluster; name it as redis://host:port"
            if clustered
            else "the Redis of STORAGE_URI is a Redis Cluster; name it as redis+cluster://host:port,host:port"
        )
    if (policy := _policy(facts)) != POLICY:
        raise ConfigError(
            f"the Redis of STORAGE_URI has maxmemory-policy {policy}, which loses jobs; set it to {POLICY}"
        )
    appends = facts.get("aof_enabled") == "1"
    if strictness.synced and not appends:
        raise ConfigError("synced=true needs appendonly yes in the settings of the Redis of STORAGE_URI")
    if appends:
        await _check_replay(connection, key)
    else:
        _seldom.warn("the Redis of STORAGE_URI loses its last writes if it crashes", why="it has appendonly off")


async def _check_replay(connection: Connection, key: str) -> None:
    """Check that a server would read back all that functions write.

    A function's writes stand in the log as one transaction. When the server reads the log, it leaves out those commands
    of a transaction that its user `default` may not run, even if that user is off.
    """
    if connection.username in (None, "", "default"):
        # The server refuses this user's commands at once.
        return
    replies = await ask(connection, *(("ACL", "DRYRUN", "default", name, key, *rest) for name, *rest in WRITES))
    if errors := [reply for reply in replies if isinstance(reply, RedisError)]:
        log.warning(
            "the Redis of STORAGE_URI does not say whether its user default may run what its log holds; if not, the "
            "log is lost at the server's next start: %s; see docs/redis.md",
            errors[0],
        )
        return
    refused = sorted({name for (name, *_), reply in zip(WRITES, replies, strict=True) if reply != b"OK"})
    if refused:
        raise ConfigError(
            "the Redis of STORAGE_URI reads its log (appendonly) with the rights of its user default, who may not run "
            f"{', '.join(refused)} on the keys {{holon*: at its next start it loses what nodes have written. Give that "
            "user these rights, also while it is off: ACL SETUSER default ~{holon* +@write"
        )


def refusal_of(info: Any) -> str:
    """Why a server is given no new jobs, by its answer to INFO memory; empty if it may have them."""
    facts = _facts(info)
    if (policy := _policy(facts)) != POLICY:
        return (
            f"the Redis of STORAGE_URI has maxmemory-policy {policy} now, which loses jobs; new jobs wait until it is "
            f"{POLICY} again"
        )
    most = int(facts.get("maxmemory", "0"))
    used = int(facts.get("used_memory", "0")) / most if most else 0
    return f"the Redis of the store uses {used:.0%} of its maxmemory; new jobs wait for room" if used >= FULL else ""


def _policy(facts: Mapping[str, str]) -> str:
    return facts.get("maxmemory_policy", POLICY)


def _facts(info: bytes | Mapping[str, Any]) -> dict[str, str]:
    if isinstance(info, Mapping):
        return {str(name): str(value) for name, value in info.items()}
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
