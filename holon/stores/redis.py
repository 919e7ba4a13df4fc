"""A row store in Redis or Valkey: a hash for each job, a sorted set for each index, and a library of functions."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from heapq import merge
from importlib.resources import files
from itertools import chain, islice
from typing import Any, Self

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from holon.errors import ConfigError, HolonError, StoreBroken, StoreUnavailable
from holon.stores.port import (
    Batch,
    Change,
    Draw,
    Drawn,
    Found,
    Head,
    Record,
    RowKey,
    Word,
)
from holon.stores.redis_servers import (
    Cluster,
    Command,
    Connection,
    Place,
    Sentinels,
    Server,
    Slot,
    Strictness,
    ask,
    check_server,
    explained,
    hint_of,
    packed,
    refusal_of,
    say,
)

log = logging.getLogger(__name__)

LAYOUT = 1
SHARDS = 32
# How long `receive` waits for mail, in milliseconds; and how many messages it reads at once.
RECEIVE_MS = 1_000
_READ_MESSAGES = 1_000
# Mail of a node that nobody reads is cut to this length, and gone after an hour.
_MOST_MAIL = 10_000
_MAIL_MS = 3_600_000
# Calls that go together: more would take so long that a slow link is taken for lost.
_FLIGHT = 256

_LOST = "the Redis of STORAGE_URI has lost the store, or holds another; restore it and start the node again"
_STORE, _SHARED, _EXPIRIES = "{holon}:store", "{holon}", "{holon}:expiries"
_OLDER = "{h:0}:meta"
# The server did not run the command, because the slot of its keys moves to another master.
_MOVING = (TryAgainError, AskError, MovedError)
# Such a command is sent again after each pause, for this time (seconds).
_MOVING_S = 5.0
_MOVING_PAUSE_S = 0.05
# The server may have got over these, or another may have taken its place, by the next call.
_PASSING = (ReadOnlyError, MasterDownError, ClusterDownError, *_MOVING)


class RedisRows:
    """A row store in Redis or Valkey; see `RowStore`. Each shard has one hash tag, so it is at one server.

    Arguments:
        uri: where the server is: see `Server`, `Sentinels` and `Cluster`.
        shards: how many shards a store has that is made; one that is there must have as many.
        replicas: how many replicas must have a write before it is answered.
        synced: whether it must be on the disk too, there and at the server itself.
    Raises:
        ConfigError: the URI is none of these.
    """

    exclusive = False

    def __init__(self, uri: str, shards: int = SHARDS, *, replicas: int = 0, synced: bool = False) -> None:
        self.objection = ""
        self._wanted, self._strictness = shards, Strictness(replicas=replicas, synced=synced)
        self._library = Library(files(__package__).joinpath("holon.lua").read_text(encoding="utf-8"))
        self._cluster = Cluster(uri) if uri.startswith(Cluster.SCHEMES) else None
        self._server = None
        if self._cluster is None:
            self._server = Sentinels(uri) if uri.startswith(Sentinels.SCHEMES) else Server(uri)
        self._lanes: list[_Lane] = []
        self._listener: _Listener | None = None

    def __repr__(self) -> str:
        return f"RedisRows({self._server or self._cluster})"

    async def __aenter__(self) -> Self:
        """Connect, and make the store if there is none.

        Raises:
            ConfigError: a server cannot be reached or cannot hold a store, or another version made the store.
        """
        self._shared = self._lane(_STORE)
        try:
            await self._open()
        except StoreUnavailable as error:
            await self._close()
            raise ConfigError(f"{error.message}{hint_of(error.__cause__)}") from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Finish what was asked for, and disconnect."""
        await self._close()

    async def _close(self) -> None:
        for lane in {*self._lanes, self._shared}:
            await lane.close()
        if self._listener is not None:
            await self._listener.close()

    async def _open(self) -> None:
        opened = await self._shared.function("open", [_STORE], secrets.token_hex(8), self._wanted, LAYOUT)
        self.id, shards, layout, generation, whole = (part and part.decode() for part in opened)
        if int(layout) != LAYOUT:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI has layout {layout}, and this version reads {LAYOUT}. Start "
                "the version that made it, or begin anew in another database"
            )
        if not whole and await self._is_older():
            raise ConfigError(
                "the Redis of STORAGE_URI has the store of an older version, which this version cannot read. Start "
                "that version to finish its jobs, then begin anew in another database"
            )
        self.shards, self.generation = int(shards), int(generation)
        if self._wanted != self.shards:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI has {self.shards} shards, and this version takes one with "
                f"{self._wanted}. Start the version that made it, or begin anew in another database"
            )
        # One server carries all shards in one flight. In a cluster each shard has a connection of its own.
        if self._cluster is None:
            self._lanes = [self._shared] * self.shards
        else:
            self._lanes = [self._lane(_head(shard)) for shard in range(self.shards)]
        for shard, lane in enumerate(self._lanes):
            if not whole:
                await lane.calls(("HSETNX", _head(shard), "store", self.id))
            [store] = await lane.calls(("HGET", _head(shard), "store"))
            if store != self.id.encode():
                raise ConfigError(
                    f"shard {shard} of the store in the Redis of STORAGE_URI is gone, or another store's; restore the "
                    "store from its backup first"
                )
        if not whole:
            log.warning(
                "the Redis of STORAGE_URI held no store, so a new one was made; jobs of an earlier store are gone"
            )
            await self._shared.calls(("HSET", _STORE, "whole", 1))
        for lane in {*self._lanes, self._shared}:
            lane.store = self.id

    async def _is_older(self) -> bool:
        """Whether there is a store of before the first layout. A user who may not look has none."""
        lane = self._lane(_OLDER)
        try:
            [found] = await lane.calls(("EXISTS", _OLDER))
        except StoreUnavailable:
            return False
        finally:
            await lane.close()
        return bool(found)

    def _lane(self, key: str) -> _Lane:
        """A lane to the server that has a key."""
        return _Lane(self._place(key), key, self._strictness, self._library)

    def _place(self, key: str) -> Place:
        return Slot(self._cluster, key) if self._cluster is not None else self._server  # type: ignore[return-value]

    # Ownership -----------------------------------------------------------------------------------------------------

    async def heads(self) -> Sequence[Head]:
        shards, memory = range(self.shards), ("INFO", "memory")
        if self._cluster is None:
            keys = [_head(shard) for shard in shards]
            replies, info = await self._shared.calls(self._library.call("heads", keys), memory)
            infos = [info]
        else:
            each = (self._lanes[shard].calls(self._library.call("heads", [_head(shard)]), memory) for shard in shards)
            pairs = await asyncio.gather(*each)
            replies, infos = [head for [head], _ in pairs], [info for _, info in pairs]
        self.objection = next(filter(None, map(refusal_of, infos)), "")
        return [_head_of(shard, reply) for shard, reply in zip(shards, replies, strict=True)]

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        reply = await self._lanes[seen.shard].function(
            "acquire", [_head(seen.shard)], *seen.seen(), token, node, schema, self.id
        )
        if reply[0] == b"lost":
            raise StoreBroken(_LOST)
        return _head_of(seen.shard, reply) if reply[0] == b"ok" else None

    async def release(self, head: Head, batch: int) -> bool:
        return bool(
            await self._lanes[head.shard].function("release", [_head(head.shard)], head.epoch, head.token, batch)
        )

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        applied = [(batch, _applied(batch)) for batch in batches]
        replies = await asyncio.gather(
            *(self._lanes[batch.shard].function("apply", keys, *words) for batch, (keys, words) in applied)
        )
        return [
            (Word(reply[0].decode()), _head_of(batch.shard, reply))
            for batch, reply in zip(batches, replies, strict=True)
        ]

    # Reading -------------------------------------------------------------------------------------------------------

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        by_job: dict[str, list[str]] = {}
        for job, name in keys:
            by_job.setdefault(job, []).append(name)
        commands = [("HMGET", _job(shard, job), *names) for job, names in by_job.items()]
        replies = await self._lanes[shard].calls(*commands)
        found = {
            (job, name): value
            for (job, names), values in zip(by_job.items(), replies, strict=True)
            for name, value in zip(names, values, strict=True)
        }
        return [found[key] for key in keys]

    async def names(self, shard: int, job: str) -> Sequence[str]:
        [names] = await self._lanes[shard].calls(("HKEYS", _job(shard, job)))
        return [name.decode() for name in names]

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        bounds = (high, low, "BYSCORE", "REV") if newest_first else (low, high, "BYSCORE")
        by_lane: dict[_Lane, list[int]] = {}
        for shard in sorted(shards):
            by_lane.setdefault(self._lanes[shard], []).append(shard)

        async def ranges(lane: _Lane, some: Sequence[int]) -> list[list[Found]]:
            replies = await lane.calls(
                *(("ZRANGE", _index(shard, index), *bounds, "LIMIT", 0, limit, "WITHSCORES") for shard in some)
            )
            return [_found(shard, reply) for shard, reply in zip(some, replies, strict=True)]

        parts = chain.from_iterable(await asyncio.gather(*(ranges(*one) for one in by_lane.items())))
        merged = merge(*parts, key=lambda one: (one.score, one.shard, one.member), reverse=newest_first)
        return list(islice(merged, limit))

    async def count(self, index: str, shards: Collection[int]) -> int:
        counts = await asyncio.gather(*(self._lanes[shard].calls(("ZCARD", _index(shard, index))) for shard in shards))
        return sum(count for [count] in counts)

    # Mail ----------------------------------------------------------------------------------------------------------

    async def send(self, node: str, bodies: Sequence[bytes]) -> None:
        key = _mail(node)
        commands: list[Command] = [("XADD", key, "MAXLEN", "~", _MOST_MAIL, "*", "m", body) for body in bodies]
        await self._shared.calls(*commands, ("PEXPIRE", key, _MAIL_MS))

    async def receive(self, node: str) -> Sequence[bytes]:
        if self._listener is None:
            self._listener = _Listener(self._place(_STORE), _mail(node))
        try:
            return await self._listener.read()
        except (RedisError, OSError, EOFError, ConfigError) as error:
            raise StoreUnavailable(f"mail cannot be read: {error}", retry_after=1.0) from error

    # Shared records ------------------------------------------------------------------------------------------------

    async def records(self, kind: str, keys: Sequence[str] | None = None) -> Sequence[Record]:
        now = self._library.call("now", ())
        if keys is None:
            pairs, time = await self._shared.calls(("HGETALL", _kind(kind)), now)
            stored = dict(zip(pairs[::2], pairs[1::2], strict=True))
        else:
            values, time = await self._shared.calls(("HMGET", _kind(kind), *keys), now)
            stored = dict(zip((key.encode() for key in keys), values, strict=True))
        found = (_record_of(kind, key.decode(), value) for key, value in stored.items() if value is not None)
        return [one for one in found if one.expires_at is None or one.expires_at > int(time)]

    async def exchange(self, changes: Sequence[Change]) -> Sequence[tuple[bool, Record | None]]:
        keys = [_STORE, _EXPIRIES, *(_kind(one.kind) for one in changes)]
        words = chain.from_iterable(
            (
                one.kind,
                one.key,
                one.version,
                "" if one.ttl is None else one.ttl,
                *(("0", "") if one.value is None else ("1", one.value)),
            )
            for one in changes
        )
        replies = await self._shared.function("exchange", keys, self.id, *words)
        if replies is None:
            raise StoreBroken(_LOST)
        return [
            (bool(made), Record(one.kind, one.key, int(version), value, int(expiry) or None) if int(version) else None)
            for one, (made, version, expiry, value) in zip(changes, replies, strict=True)
        ]

    async def draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        keys = [f"{_SHARED}:c:{one.kind}:{one.key}" for one in draws]
        words = chain.from_iterable((one.amount, one.limit, one.ttl, int(one.aligned)) for one in draws)
        replies = await self._shared.function("draw", keys, *words)
        return [Drawn(bool(granted), int(value), int(left)) for granted, value, left in replies]

    async def count_records(self, kind: str) -> int:
        [count] = await self._shared.calls(("HLEN", _kind(kind)))
        return int(count)

    async def expire(self, limit: int) -> int:
        # The server lets counters go by itself.
        members = await self._shared.function("expired", [_EXPIRIES], limit)
        some = [member.decode().partition(" ") for member in members]
        keys = [_EXPIRIES, *(_kind(kind) for kind, _, _ in some)]
        words = chain.from_iterable((kind, key) for kind, _, key in some)
        return int(await self._shared.function("expire", keys, *words)) if some else 0


class Library:
    """The functions of the store at a server.

    Arguments:
        text: their code. Its digest is part of their names, so versions do not run each other's.
    """

    def __init__(self, text: str) -> None:
        self.name = f"holon{LAYOUT}_{sha256(text.encode()).hexdigest()[:12]}"
        self.text = f"#!lua name={self.name}\nlocal LIBRARY = '{self.name}'\n{text}"

    def call(self, name: str, keys: Sequence[str], *words: Any) -> tuple[Any, ...]:
        """The command that runs a function."""
        return ("FCALL", f"{self.name}_{name}", len(keys), *keys, *words)


class _Lane:
    """One connection for calls. Those that come while a flight is out go together in the next one.

    Arguments:
        place: where to connect.
        key: a key at that place that says which store is there, in its field `store` or `id`.
        strictness: what is waited for at the end of each flight. A flight that only reads then carries a write of its
            own, for WAIT asks the replicas about the connection's last write.
        library: the functions.

    Attributes:
        store: the id of the store that must be at the place; empty until it is known.
    """

    def __init__(self, place: Place, key: str, strictness: Strictness, library: Library) -> None:
        self.store = ""
        self._library = library
        self._place = place
        self._key = key
        self._strictness = strictness
        self._queue: deque[tuple[Sequence[bytes], asyncio.Future[list[Any]]]] = deque()
        self._connection: Connection | None = None
        self._flying: asyncio.Task[None] | None = None
        self._broken: StoreBroken | None = None

    def __repr__(self) -> str:
        return f"_Lane({self._place}, waiting={len(self._queue)})"

    async def function(self, name: str, keys: Sequence[str], *words: Any) -> Any:
        """The reply of a function. Raises StoreUnavailable if it may or may not have run, or was refused."""
        [reply] = await self.calls(self._library.call(name, keys, *words))
        return reply

    async def calls(self, *commands: Command) -> list[Any]:
        """The replies to commands. Raises StoreUnavailable if one may or may not have run, or was refused."""
        if self._broken is not None:
            raise self._broken
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        # A word that cannot be sent is an error here, and not of the whole flight.
        self._queue.append(([packed(command) for command in commands], future))
        if self._flying is None:
            self._flying = asyncio.create_task(self._fly(), name="store-flights")
        return await future

    async def close(self) -> None:
        """Let the last flight land, and disconnect."""
        if self._flying is not None:
            await asyncio.wait([self._flying])
        await self._disconnect()

    async def _fly(self) -> None:
        # What else this turn of the loop asks for goes along.
        await asyncio.sleep(0)
        while self._queue:
            flight = [self._queue.popleft() for _ in range(min(len(self._queue), _FLIGHT))]
            try:
                replies = await self._replies(list(chain.from_iterable(commands for commands, _ in flight)))
            except StoreBroken as error:
                self._broken = error
                _refuse(flight, error)
            except (RedisError, OSError, EOFError, ConfigError) as error:
                await self._disconnect()
                text = explained(error) or type(error).__name__
                if not isinstance(error, ConfigError):
                    text = f"the Redis of STORAGE_URI cannot be reached: {text.rstrip('.')}"
                refusal = StoreUnavailable(text, retry_after=1.0)
                refusal.__cause__ = error
                _refuse(flight, refusal)
            except Exception as error:
                # The calls of later flights wait for this task, so it goes on.
                log.exception("the store failed")
                await self._disconnect()
                _refuse(flight, StoreUnavailable(f"the store failed: {error!r}", retry_after=1.0))
            else:
                if any(isinstance(one, _PASSING) or _is_unknown(one) for one in replies):
                    await self._disconnect()
                self._land(flight, replies)
        self._flying = None

    async def _replies(self, commands: list[bytes]) -> list[Any]:
        """The replies to commands; those whose slot moves are sent again until it has moved, or for `_MOVING_S`."""
        replies = await self._round_trip(commands)
        loop = asyncio.get_running_loop()
        end = loop.time() + _MOVING_S
        while (moving := [at for at, one in enumerate(replies) if isinstance(one, _MOVING)]) and loop.time() < end:
            if any(isinstance(one, MovedError) for one in replies):
                await self._disconnect()
            await asyncio.sleep(_MOVING_PAUSE_S)
            for at, reply in zip(moving, await self._round_trip([commands[at] for at in moving]), strict=True):
                replies[at] = reply
        return replies

    async def _round_trip(self, commands: list[bytes]) -> list[Any]:
        if self._connection is None:
            try:
                self._connection = await self._connect()
            except _MOVING as error:
                return [error] * len(commands)
        question = self._strictness.question()
        if question is None:
            return await ask(self._connection, *commands)
        barrier = self._library.call("barrier", (f"{self._key}:barrier",))
        *replies, _, kept = await ask(self._connection, *commands, barrier, question)
        if isinstance(kept, Exception) or not self._strictness.met(kept):
            raise RedisError(f"not as many replicas or disks have the write as STORAGE_URI asks for: {kept}")
        return replies

    async def _connect(self) -> Connection:
        connection = await self._place.connect()
        try:
            await check_server(connection, self._strictness, self._place.clustered, self._key)
            [known] = await ask(connection, ("FUNCTION", "LIST", "LIBRARYNAME", self._library.name))
            if isinstance(known, ResponseError):
                raise known
            if not known:
                [loaded] = await ask(connection, ("FUNCTION", "LOAD", self._library.text))
                if isinstance(loaded, ResponseError) and "already exists" not in str(loaded):
                    raise loaded
            [stores] = await ask(connection, ("HMGET", self._key, "store", "id"))
            if self.store and isinstance(stores, ResponseError):
                raise stores
            if self.store and self.store.encode() not in stores:
                raise StoreBroken(_LOST)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    @staticmethod
    def _land(flight: Iterable[tuple[Sequence[bytes], asyncio.Future[list[Any]]]], replies: Sequence[Any]) -> None:
        first = 0
        for commands, future in flight:
            own = replies[first : first + len(commands)]
            first += len(commands)
            if future.done():
                continue
            error = next((one for one in own if isinstance(one, Exception)), None)
            if error is None:
                future.set_result(list(own))
            else:
                text = f"the Redis of STORAGE_URI refused a command: {explained(error)}"
                future.set_exception(StoreUnavailable(text, retry_after=1.0))


def _refuse(flight: Iterable[tuple[Sequence[bytes], asyncio.Future[list[Any]]]], error: HolonError) -> None:
    for _, future in flight:
        if not future.done():
            future.set_exception(error)


class _Listener:
    """One connection that waits for a stream to grow.

    Arguments:
        place: where to connect.
        stream: the stream of a node's mail.
    """

    def __init__(self, place: Place, stream: str) -> None:
        self._place = place
        self._stream = stream
        self._connection: Connection | None = None
        # The id of what was read last.
        self._last = "0-0"

    async def read(self) -> list[bytes]:
        """Wait for mail behind what was read last, or for about a second.

        Raises:
            RedisError, OSError, EOFError: the connection is lost.
            ConfigError: the server cannot be used.
        """
        try:
            if self._connection is None:
                self._connection = await self._place.connect()
            await say(
                self._connection,
                ("XREAD", "BLOCK", RECEIVE_MS, "COUNT", _READ_MESSAGES, "STREAMS", self._stream, self._last),
            )
            reply = await self._connection.read_response()
        except BaseException:
            # The reply of a read that is given up would be taken for the next one's.
            await self.close()
            raise
        if not reply:
            return []
        [[_, entries]] = reply
        self._last = entries[-1][0].decode()
        return [body for _, [_, body] in entries]

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _is_unknown(reply: Any) -> bool:
    """Whether the server has lost the library; it is loaded again with the next connection."""
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)


def _applied(batch: Batch) -> tuple[list[str], list[Any]]:
    """The keys and words of `apply`."""
    shard, places = batch.shard, {_head(batch.shard): 1}
    words: list[Any] = [batch.epoch, batch.token, batch.number, batch.stamp]

    def place(key: str) -> int:
        return places.setdefault(key, len(places) + 1)

    for job in batch.purged:
        words += ("D", place(_job(shard, job)))
    for verb, rows in (("d", batch.deletes), ("p", batch.puts)):
        by_job: dict[str, list[Any]] = {}
        for job, *row in rows:
            by_job.setdefault(job, []).append(row)
        for job, some in by_job.items():
            words += (verb, place(_job(shard, job)), len(some), *chain.from_iterable(some))
    for verb, entries in (("Z", batch.removed), ("z", batch.entries)):
        by_index: dict[str, list[Any]] = {}
        for index, score, member in entries:
            by_index.setdefault(index, []).append((member,) if verb == "Z" else (score, member))
        for index, some in by_index.items():
            words += (verb, place(_index(shard, index)), len(some), *chain.from_iterable(some))
    return list(places), words


def _head_of(shard: int, reply: Sequence[Any]) -> Head:
    _, epoch, token, batch, time, node, schema = reply
    return Head(shard, epoch, token.decode(), batch, int(time), node.decode(), schema)


def _found(shard: int, reply: Sequence[bytes]) -> list[Found]:
    return [Found(shard, int(score), member.decode()) for member, score in zip(reply[::2], reply[1::2], strict=True)]


def _record_of(kind: str, key: str, stored: bytes) -> Record:
    version, expiry, value = stored.split(b" ", 2)
    return Record(kind, key, int(version), value, int(expiry) or None)


def _head(shard: int) -> str:
    return f"{{holon:{shard}}}:head"


def _job(shard: int, job: str) -> str:
    return f"{{holon:{shard}}}:j:{job}"


def _index(shard: int, index: str) -> str:
    return f"{{holon:{shard}}}:i:{index}"


def _mail(node: str) -> str:
    return f"{_SHARED}:mail:{node}"


def _kind(kind: str) -> str:
    return f"{_SHARED}:r:{kind}"
