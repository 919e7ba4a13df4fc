"""A row store in PostgreSQL: a table of rows, one of index entries, and a function that applies a batch."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from holon.errors import ConfigError, StoreBroken, StoreUnavailable
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

log = logging.getLogger(__name__)

LAYOUT = 1
SHARDS = 32
OLDEST = 140_000
# A statement that takes longer has no definite outcome (seconds).
TIMEOUT_S = 10.0
# How long `receive` waits for something to come (seconds).
RECEIVE_S = 1.0
# A notification wakes at most so often; what comes meanwhile is read with it (seconds).
_NOTIFY_S = 0.001
_READERS = 4
_MAIL_MS = 60_000

# What the client library raises where a call has no definite answer.
_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

SCHEMA = """
CREATE TABLE holon_store (
    id text NOT NULL, shards int NOT NULL, layout int NOT NULL, generation int NOT NULL DEFAULT 1
);
CREATE TABLE holon_head (
    shard int PRIMARY KEY, epoch bigint NOT NULL DEFAULT 0, token text NOT NULL DEFAULT '',
    batch bigint NOT NULL DEFAULT 0, time bigint NOT NULL DEFAULT 0, node text NOT NULL DEFAULT '',
    schema int NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE TABLE holon_row (
    shard int, job text COLLATE "C", name text COLLATE "C", value bytea NOT NULL, PRIMARY KEY (shard, job, name)
) WITH (fillfactor = 70);
CREATE TABLE holon_entry (
    shard int, name text COLLATE "C", score bigint, member text COLLATE "C", PRIMARY KEY (name, shard, score, member)
);
CREATE UNLOGGED TABLE holon_mail (
    node text, id bigint GENERATED ALWAYS AS IDENTITY, at bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (node, id)
);
CREATE TABLE holon_record (
    kind text, key text, version bigint NOT NULL, value bytea NOT NULL, expires_at bigint, PRIMARY KEY (kind, key)
) WITH (fillfactor = 70);
CREATE TABLE holon_counter (
    kind text, key text, value bigint NOT NULL, expires_at bigint NOT NULL, PRIMARY KEY (kind, key)
) WITH (fillfactor = 50);
CREATE SEQUENCE holon_version;
CREATE INDEX holon_record_expiry ON holon_record (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX holon_counter_expiry ON holon_counter (expires_at);

CREATE FUNCTION holon_now() RETURNS bigint LANGUAGE sql VOLATILE AS
    $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- A repeat writes too: only a commit of its own waits until a synchronous standby has what the lost one wrote.
CREATE FUNCTION holon_acquire(
    s int, seen_epoch bigint, seen_token text, seen_batch bigint, fresh text, n text, format int,
    OUT word text, OUT head holon_head
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT * INTO head FROM holon_head WHERE shard = s FOR UPDATE;
    IF head.token = fresh THEN
        word := 'ok';
    ELSIF (head.epoch, head.token, head.batch) = (seen_epoch, seen_token, seen_batch) THEN
        word := 'ok';
        head.epoch := head.epoch + 1;
    ELSE
        word := 'no';
        RETURN;
    END IF;
    UPDATE holon_head
        SET epoch = head.epoch, token = fresh, node = n, schema = format, time = greatest(time, holon_now())
        WHERE shard = s RETURNING * INTO head;
END $$;

-- The lock of the head waits for a copy of this batch that another connection still commits.
CREATE FUNCTION holon_apply(
    s int, e bigint, t text, number bigint, stamp bigint, purged text[], deleted_jobs text[], deleted_names text[],
    jobs text[], names text[], contents bytea[], removed text[], removed_scores bigint[], removed_members text[],
    entries text[], scores bigint[], members text[], OUT word text, OUT head holon_head
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT * INTO head FROM holon_head WHERE shard = s FOR UPDATE;
    IF head.epoch <> e OR head.token <> t THEN
        word := 'fenced';
        RETURN;
    ELSIF number > head.batch + 1 THEN
        word := 'gap';
        RETURN;
    END IF;
    word := 'ok';
    IF number = head.batch + 1 THEN
        IF cardinality(purged) > 0 THEN
            DELETE FROM holon_row r WHERE r.shard = s AND r.job = ANY (purged);
        END IF;
        IF cardinality(deleted_jobs) > 0 THEN
            DELETE FROM holon_row r USING unnest(deleted_jobs, deleted_names) AS d (job, name)
                WHERE r.shard = s AND r.job = d.job AND r.name = d.name;
        END IF;
        IF cardinality(jobs) > 0 THEN
            INSERT INTO holon_row SELECT s, * FROM unnest(jobs, names, contents)
                ON CONFLICT (shard, job, name) DO UPDATE SET value = excluded.value;
        END IF;
        IF cardinality(removed) > 0 THEN
            DELETE FROM holon_entry x USING unnest(removed, removed_scores, removed_members) AS d (name, score, member)
                WHERE x.name = d.name AND x.shard = s AND x.score = d.score AND x.member = d.member;
        END IF;
        IF cardinality(entries) > 0 THEN
            INSERT INTO holon_entry SELECT s, * FROM unnest(entries, scores, members) ON CONFLICT DO NOTHING;
        END IF;
    END IF;
    UPDATE holon_head SET batch = greatest(batch, number), time = greatest(time, stamp, holon_now())
        WHERE shard = s RETURNING * INTO head;
END $$;

CREATE FUNCTION holon_exchange(
    k text, name text, seen bigint, content bytea, ttl bigint, OUT made boolean, OUT record holon_record
) LANGUAGE plpgsql AS $$
DECLARE
    moment bigint := holon_now();
BEGIN
    IF seen = 0 AND content IS NOT NULL THEN
        INSERT INTO holon_record VALUES (k, name, nextval('holon_version'), content, moment + ttl)
            ON CONFLICT (kind, key) DO UPDATE
                SET version = excluded.version, value = excluded.value, expires_at = excluded.expires_at
                WHERE holon_record.expires_at <= moment
            RETURNING * INTO record;
    ELSIF content IS NULL THEN
        DELETE FROM holon_record
            WHERE kind = k AND key = name AND version = seen AND coalesce(expires_at > moment, true);
    ELSE
        UPDATE holon_record SET version = nextval('holon_version'), value = content, expires_at = moment + ttl
            WHERE kind = k AND key = name AND version = seen AND coalesce(expires_at > moment, true)
            RETURNING * INTO record;
    END IF;
    made := FOUND;
    IF NOT made THEN
        SELECT * INTO record FROM holon_record WHERE kind = k AND key = name AND coalesce(expires_at > moment, true);
        made := content IS NULL AND seen = 0 AND NOT FOUND;
    END IF;
END $$;

CREATE FUNCTION holon_draw(
    k text, name text, amount bigint, most bigint, ttl bigint, aligned boolean,
    OUT granted boolean, OUT total bigint, OUT rest bigint
) LANGUAGE plpgsql AS $$
DECLARE
    moment bigint := holon_now();
BEGIN
    INSERT INTO holon_counter VALUES (k, name, 0, moment + ttl - CASE WHEN aligned THEN moment % ttl ELSE 0 END)
        ON CONFLICT (kind, key) DO UPDATE
            SET value = CASE WHEN holon_counter.expires_at <= moment THEN 0 ELSE holon_counter.value END,
                expires_at = CASE WHEN holon_counter.expires_at <= moment THEN excluded.expires_at
                    ELSE holon_counter.expires_at END
        RETURNING value, expires_at - moment INTO total, rest;
    granted := total + amount <= most;
    IF granted THEN
        total := total + amount;
        UPDATE holon_counter SET value = total WHERE kind = k AND key = name;
    END IF;
END $$;
"""

_HEAD = (
    "(head).shard, (head).epoch, (head).token, (head).batch, greatest((head).time, holon_now()), (head).node, "
    "(head).schema"
)
_APPLY_ARGUMENTS = 17


class PostgresRows:
    """A row store in PostgreSQL 14 or newer; see `RowStore`.

    Batches of several shards are applied in one transaction. Two connections are this node's own: one that writes and
    one that listens; reads share a pool of 4.

    Arguments:
        uri: `postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`, with asyncpg's options in its query; of several
            hosts the one that takes writes is used.
        shards: how many shards a store has that is made; one that is there must have as many.
    """

    exclusive = False
    objection = ""

    def __init__(self, uri: str, shards: int = SHARDS) -> None:
        self._uri, self._wanted = uri, shards
        self._writing = asyncio.Lock()
        self._writer: asyncpg.Connection | None = None
        self._listener: asyncpg.Connection | None = None
        # There while the store is entered.
        self._readers: asyncpg.Pool
        self._asking: set[asyncio.Task[Sequence[Any]]] = set()
        self._came = asyncio.Event()
        self._node = ""
        self._to_notify: set[str] = set()
        self._notifying: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"PostgresRows({self._writer})"

    async def __aenter__(self) -> Self:
        """Connect, and make the store if there is none.

        Raises:
            ConfigError: the server cannot be reached or cannot hold a store, or another version made the store.
        """
        try:
            self._readers = await asyncpg.create_pool(
                self._uri,
                min_size=0,
                max_size=_READERS,
                command_timeout=TIMEOUT_S,
                timeout=TIMEOUT_S,
                target_session_attrs=SessionAttribute.read_write,
            )
            await self._open(await self._connected_writer())
        except _ERRORS as error:
            await self.__aexit__()
            raise ConfigError(f"the PostgreSQL of STORAGE_URI cannot hold a store: {_text(error)}") from error
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Finish what was asked for, and disconnect."""
        if self._notifying is not None:
            self._notifying.cancel()
        for connection in (self._writer, self._listener):
            if connection is not None:
                connection.terminate()
        if hasattr(self, "_readers"):
            self._readers.terminate()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _connected_writer(self) -> asyncpg.Connection:
        if self._writer is None or self._writer.is_closed():
            connection = await asyncpg.connect(
                self._uri,
                timeout=TIMEOUT_S,
                command_timeout=TIMEOUT_S,
                target_session_attrs=SessionAttribute.read_write,
            )
            try:
                await self._check(connection)
            except BaseException:
                connection.terminate()
                raise
            self._writer = connection
            # After a failover, reads of the old server would not have what is written from now on.
            await self._readers.expire_connections()
        return self._writer

    async def _check(self, connection: asyncpg.Connection) -> None:
        [(version, encoding, commit, fsync, standby)] = await connection.fetch(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), "
            "current_setting('synchronous_commit'), current_setting('fsync'), pg_is_in_recovery()"
        )
        reason = (
            f"it is version {version // 10_000}; the store needs 14 or newer"
            if version < OLDEST
            else f"its encoding is {encoding}; make the database with ENCODING 'UTF8'"
            if encoding != "UTF8"
            else "it has synchronous_commit off, which loses what was answered; set it to on"
            if commit == "off"
            else "it is a standby, which takes no writes; name its primary"
            if standby
            else ""
        )
        if reason:
            raise ConfigError(f"the PostgreSQL of STORAGE_URI cannot hold a store: {reason}")
        if fsync == "off":
            log.warning("the PostgreSQL of STORAGE_URI has fsync off: a power cut may lose all of the store")
        if hasattr(self, "id") and await connection.fetchval("SELECT id FROM holon_store") != self.id:
            raise StoreBroken(
                "the PostgreSQL of STORAGE_URI has lost the store, or holds another; restore it and start the node "
                "again"
            )

    async def _open(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            # Nodes that start together make it once.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('holon_store'))")
            if await connection.fetchval("SELECT to_regclass('holon_store') IS NULL"):
                await connection.execute(SCHEMA)
                await connection.execute(
                    "INSERT INTO holon_store VALUES ($1, $2, $3)", secrets.token_hex(8), self._wanted, LAYOUT
                )
                await connection.execute(
                    "INSERT INTO holon_head (shard) SELECT generate_series(0, $1 - 1)", self._wanted
                )
                log.warning("the PostgreSQL of STORAGE_URI held no store, so a new one was made")
        [(self.id, self.shards, layout, self.generation)] = await connection.fetch("SELECT * FROM holon_store")
        if layout != LAYOUT:
            raise ConfigError(
                f"the store in the PostgreSQL of STORAGE_URI has layout {layout}, and this version reads {LAYOUT}. "
                "Start the version that made it, or begin anew in another database"
            )
        if self._wanted != self.shards:
            raise ConfigError(
                f"the store in the PostgreSQL of STORAGE_URI has {self.shards} shards, and this version takes one with "
                f"{self._wanted}. Start the version that made it, or begin anew in another database"
            )

    # Ownership -----------------------------------------------------------------------------------------------------

    async def heads(self) -> Sequence[Head]:
        rows = await self._rows(f"SELECT {_HEAD} FROM holon_head AS head ORDER BY shard")
        return [_head_of(row) for row in rows]

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        async with self._writes() as connection:
            [(word, *head)] = await connection.fetch(
                f"SELECT word, {_HEAD} FROM holon_acquire($1, $2, $3, $4, $5, $6, $7)",
                seen.shard, *seen.seen(), token, node, schema,
            )  # fmt: skip
        return _head_of(head) if word == "ok" else None

    async def release(self, head: Head, batch: int) -> bool:
        async with self._writes() as connection:
            released = await connection.fetchval(
                "UPDATE holon_head SET token = '' WHERE shard = $1 AND epoch = $2 AND token = $3 AND batch = $4 "
                "RETURNING true",
                head.shard, head.epoch, head.token, batch,
            )  # fmt: skip
        return bool(released)

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        found: list[tuple[Word, Head]] = []
        for first in range(0, len(batches), len(_APPLY)):
            some = batches[first : first + len(_APPLY)]
            arguments = [argument for batch in some for argument in _arguments(batch)]
            async with self._writes() as connection:
                rows = await connection.fetch(_APPLY[len(some) - 1], *arguments)
            found += [(Word(word), _head_of(head)) for word, *head in rows]
        return found

    @asynccontextmanager
    async def _writes(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection that writes. What its server does not answer, or refuses for now, is StoreUnavailable."""
        async with self._writing:
            try:
                yield await self._connected_writer()
            except (*_ERRORS, ConfigError) as error:
                if self._writer is not None and not isinstance(error, ConfigError):
                    # The reply of a call that was given up would be taken for the next one's.
                    self._writer.terminate()
                raise _unavailable(error) from error

    # Reading -------------------------------------------------------------------------------------------------------

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        jobs, names = [job for job, _ in keys], [name for _, name in keys]
        rows = await self._rows(
            "SELECT r.value FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k (job, name, place) "
            "LEFT JOIN holon_row r ON r.shard = $1 AND r.job = k.job AND r.name = k.name ORDER BY k.place",
            shard, jobs, names,
        )  # fmt: skip
        return [value for (value,) in rows]

    async def names(self, shard: int, job: str) -> Sequence[str]:
        rows = await self._rows("SELECT name FROM holon_row WHERE shard = $1 AND job = $2", shard, job)
        return [name for (name,) in rows]

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        order = "DESC" if newest_first else "ASC"
        rows = await self._rows(
            f"SELECT e.shard, e.score, e.member FROM unnest($2::int[]) AS s (shard) CROSS JOIN LATERAL ("
            "SELECT shard, score, member FROM holon_entry "
            "WHERE name = $1 AND shard = s.shard AND score BETWEEN $3 AND $4 "
            f"ORDER BY score {order}, member {order} LIMIT $5) AS e "
            f"ORDER BY e.score {order}, e.shard {order}, e.member {order} LIMIT $5",
            index, list(shards), low, high, limit,
        )  # fmt: skip
        return [Found(*row) for row in rows]

    async def count(self, index: str, shards: Collection[int]) -> int:
        query = "SELECT count(*) FROM holon_entry WHERE name = $1 AND shard = ANY ($2::int[])"
        [(count,)] = await self._rows(query, index, list(shards))
        return int(count)

    async def _rows(self, query: str, *arguments: Any) -> Sequence[Any]:
        # A cancel of the caller does not reach it: asyncpg would give the connection back in a task that nobody waits
        # for, and whose error would be logged.
        asking = asyncio.create_task(self._ask(query, arguments), name="store-query")
        self._asking.add(asking)
        asking.add_done_callback(self._asked)
        return await asyncio.shield(asking)

    def _asked(self, asking: asyncio.Task[Sequence[Any]]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            # Its caller may be gone.
            asking.exception()

    async def _ask(self, query: str, arguments: Sequence[Any]) -> Sequence[Any]:
        try:
            # Without a limit, a read would wait for all earlier reads that a silent server does not answer.
            async with self._readers.acquire(timeout=TIMEOUT_S) as connection:
                rows: Sequence[Any] = await connection.fetch(query, *arguments)
        except _ERRORS as error:
            raise _unavailable(error) from error
        return rows

    # Mail ----------------------------------------------------------------------------------------------------------

    async def send(self, node: str, bodies: Sequence[bytes]) -> None:
        await self._rows(
            "INSERT INTO holon_mail (node, at, body) SELECT $1, holon_now(), unnest($2::bytea[])", node, list(bodies)
        )
        self._notify(node)

    def _notify(self, node: str) -> None:
        """Wake a node soon. The commit of a notification waits for that of every other one, so few are made."""
        self._to_notify.add(node)
        if self._notifying is None or self._notifying.done():
            self._notifying = asyncio.create_task(self._notify_all(), name="store-notify")

    async def _notify_all(self) -> None:
        while self._to_notify:
            await asyncio.sleep(_NOTIFY_S)
            nodes, self._to_notify = sorted(self._to_notify), set()
            try:
                await self._rows("SELECT pg_notify('holon', node) FROM unnest($1::text[]) AS n (node)", nodes)
            except StoreUnavailable as error:
                log.debug("nodes are not woken, and look by themselves: %s", error.message)

    async def receive(self, node: str) -> Sequence[bytes]:
        self._node = node
        await self._listen()
        mail = await self._received(node)
        if not mail:
            try:
                async with asyncio.timeout(RECEIVE_S):
                    await self._came.wait()
            except TimeoutError:
                pass
            mail = await self._received(node)
        return mail

    async def _listen(self) -> None:
        if self._listener is not None and not self._listener.is_closed():
            return
        try:
            self._listener = await asyncpg.connect(
                self._uri,
                timeout=TIMEOUT_S,
                command_timeout=TIMEOUT_S,
                target_session_attrs=SessionAttribute.read_write,
            )
            await self._listener.add_listener("holon", self._heard)
        except _ERRORS as error:
            raise _unavailable(error) from error

    def _heard(self, *heard: Any) -> None:
        if heard[-1] == self._node:
            self._came.set()

    async def _received(self, node: str) -> Sequence[bytes]:
        self._came.clear()
        mail = await self._rows(
            "WITH gone AS (DELETE FROM holon_mail WHERE node = $1 OR at < holon_now() - $2 RETURNING node, id, body) "
            "SELECT body FROM gone WHERE node = $1 ORDER BY id",
            node, _MAIL_MS,
        )  # fmt: skip
        return [body for (body,) in mail]

    # Shared records ------------------------------------------------------------------------------------------------

    async def records(self, kind: str, keys: Sequence[str] | None = None) -> Sequence[Record]:
        query = "SELECT * FROM holon_record WHERE kind = $1 AND coalesce(expires_at > holon_now(), true)"
        some = () if keys is None else (list(keys),)
        rows = await self._rows(query if keys is None else f"{query} AND key = ANY ($2::text[])", kind, *some)
        return [Record(*row) for row in rows]

    async def exchange(self, changes: Sequence[Change]) -> Sequence[tuple[bool, Record | None]]:
        places = _in_order(changes)
        some = [changes[place] for place in places]
        rows = await self._rows(
            "SELECT e.made, (e.record).* FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bigint[]) "
            "AS c (kind, key, version, content, ttl) "
            "CROSS JOIN LATERAL holon_exchange(c.kind, c.key, c.version, c.content, c.ttl) AS e",
            [one.kind for one in some], [one.key for one in some], [one.version for one in some],
            [one.value for one in some], [one.ttl for one in some],
        )  # fmt: skip
        answers = {
            place: (made, Record(*record) if record[0] is not None else None)
            for place, (made, *record) in zip(places, rows, strict=True)
        }
        return [answers[place] for place in range(len(changes))]

    async def draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        places = _in_order(draws)
        some = [draws[place] for place in places]
        rows = await self._rows(
            "SELECT d.* FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[]) "
            "AS c (kind, key, amount, most, ttl, aligned) "
            "CROSS JOIN LATERAL holon_draw(c.kind, c.key, c.amount, c.most, c.ttl, c.aligned) AS d",
            [one.kind for one in some], [one.key for one in some], [one.amount for one in some],
            [one.limit for one in some], [one.ttl for one in some], [one.aligned for one in some],
        )  # fmt: skip
        answers = {place: Drawn(*row) for place, row in zip(places, rows, strict=True)}
        return [answers[place] for place in range(len(draws))]

    async def count_records(self, kind: str) -> int:
        [(count,)] = await self._rows("SELECT count(*) FROM holon_record WHERE kind = $1", kind)
        return int(count)

    async def expire(self, limit: int) -> int:
        [(count,)] = await self._rows(_EXPIRE, limit)
        return int(count)


_EXPIRE = """
WITH records AS (
    DELETE FROM holon_record WHERE (kind, key) IN (
        SELECT kind, key FROM holon_record WHERE expires_at <= holon_now() LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING 1
), counters AS (
    DELETE FROM holon_counter WHERE (kind, key) IN (
        SELECT kind, key FROM holon_counter WHERE expires_at <= holon_now() LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING 1
)
SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM counters)
"""


def _in_order(items: Sequence[Change | Draw]) -> list[int]:
    """The places of items in the order of their keys: so no two transactions wait for each other's rows."""
    return sorted(range(len(items)), key=lambda place: (items[place].kind, items[place].key))


def _apply_statement(count: int) -> str:
    parts = []
    for place in range(count):
        marks = ", ".join(f"${place * _APPLY_ARGUMENTS + number}" for number in range(1, _APPLY_ARGUMENTS + 1))
        parts.append(f"SELECT word, {_HEAD} FROM holon_apply({marks})")
    return " UNION ALL ".join(parts)


_APPLY = [_apply_statement(count) for count in range(1, 9)]


def _arguments(batch: Batch) -> tuple[Any, ...]:
    """What `holon_apply` is called with: a column for each part of each row."""
    return (
        batch.shard, batch.epoch, batch.token, batch.number, batch.stamp, list(batch.purged),
        [job for job, _ in batch.deletes], [name for _, name in batch.deletes],
        [job for job, _, _ in batch.puts], [name for _, name, _ in batch.puts], [value for _, _, value in batch.puts],
        [index for index, _, _ in batch.removed], [score for _, score, _ in batch.removed],
        [member for _, _, member in batch.removed],
        [index for index, _, _ in batch.entries], [score for _, score, _ in batch.entries],
        [member for _, _, member in batch.entries],
    )  # fmt: skip


def _head_of(row: Sequence[Any]) -> Head:
    shard, epoch, token, batch, time, node, schema = row
    return Head(shard, epoch, token, batch, time, node, schema)


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the PostgreSQL of STORAGE_URI gave no answer: {_text(error)}", retry_after=1.0)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
