"""History in PostgreSQL: several nodes may write to it, and anybody may query it. It may be away at any time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from holon.domain.events import HistoryEvent
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import JobFilter, JobRecord, Notice, WorkerEvent
from holon.storage.history.columns import (
    END_OF_TIME,
    JOB,
    LINE,
    NO_JOB,
    NO_LINE,
    away,
    bounds,
    found_among,
    history_event,
    is_choosy,
    job_record,
    page_of,
    worker_events,
    written,
)
from holon.storage.history.postgres_schema import transaction, upgrade
from holon.stores.sealing import Seal

if TYPE_CHECKING:
    from asyncpg.pool import Pool, PoolConnectionProxy

log = logging.getLogger(__name__)

# Seconds: to connect, for a statement, and to say goodbye, which is less than a node has that is to end at once.
CONNECT_S = 5.0
STATEMENT_S = 30.0
CLOSE_S = 1.0
CONNECTIONS = 4

# How asyncpg begins what it says of options that TLS has.
_OF_TLS = ("`sslmode`", "`sslnegotiation`", "direct TLS")
# What it says of a server, or what is in front of it, that ends a connection when it is asked for TLS.
_LOST = "unexpected connection_lost() call"
_TYPES = {"progress": "float8", "sequence": "int8", "time": "int8", "duration_ms": "int8", "attempt_number": "int8"}
_TYPES |= {"created_at": "int8", "updated_at": "int8", "finished_at": "int8", "sealed": "bytea", "cost": "int8"}
_JSON = ("result", "details", "error_details")
_LINE_OF_JOB = ("job", "sequence", *LINE)


def _unnested(names: tuple[str, ...]) -> str:
    """What a statement inserts: a row for each item of the arrays that it is given, one array for each column."""
    arrays = ", ".join(f"${place}::{_TYPES.get(name, 'text')}[]" for place, name in enumerate(names, start=1))
    shown = ", ".join(f"{name}::json" if name in _JSON else name for name in names)
    return f"SELECT {shown} FROM unnest({arrays}) AS given ({', '.join(names)})"  # noqa: S608  constants


_JOB, _LINE = ", ".join(JOB), ", ".join(LINE)
_ADD_JOBS = f"""
    INSERT INTO holon_jobs ({_JOB}) {_unnested(JOB)}
    ON CONFLICT (id) DO UPDATE SET ({_JOB}) = ROW ({", ".join(f"excluded.{name}" for name in JOB)})
    WHERE excluded.sequence >= holon_jobs.sequence
"""
_ADD_LINES = f"""
    INSERT INTO holon_history ({", ".join(_LINE_OF_JOB)}) {_unnested(_LINE_OF_JOB)}
    ON CONFLICT DO NOTHING
"""
_ONE = f"SELECT {_JOB} FROM holon_jobs WHERE id = $1"  # noqa: S608  constants
_LIST = f"""
    SELECT {_JOB} FROM holon_jobs
    WHERE owner = $1 AND (created_at, id) < ($2, $3) AND created_at >= $4 AND ($5::text IS NULL OR blueprint = $5)
        AND (cardinality($6::text[]) = 0 OR status = ANY ($6)) AND (created_at, id) >= ($7, $8)
    ORDER BY created_at DESC, id DESC LIMIT $9
"""  # noqa: S608  constants
# All of an id's characters sort before z, in every collation; some collations have other ids in between.
_IDS = """
    SELECT id FROM holon_jobs
    WHERE id >= $2 AND id < $2 || 'z' AND starts_with(id, $2) AND owner = $1
    ORDER BY id COLLATE "C" LIMIT $3
"""
_LOOK_AT_JOBS = """
    SELECT created_at, id FROM holon_jobs WHERE owner = $1 AND (created_at, id) < ($2, $3) AND created_at >= $4
    ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET $5
"""
_HISTORY = f"""
    SELECT sequence, {_LINE} FROM holon_history WHERE job = $1 AND sequence > $2 ORDER BY sequence LIMIT $3
"""  # noqa: S608  constants
_OF_WORKER = f"""
    SELECT h.job, h.sequence, {", ".join(f"h.{name}" for name in LINE)}
    FROM holon_history h JOIN holon_jobs j ON j.id = h.job
    WHERE h.worker_id = $1 AND j.owner = $2 AND (h.time, h.job, h.sequence) < ($3, $4, $5)
        AND (h.time, h.job, h.sequence) >= ($6, $7, $8)
    ORDER BY h.time DESC, h.job DESC, h.sequence DESC LIMIT $9
"""  # noqa: S608  constants
_LOOK_AT_LINES = """
    SELECT time, job, sequence FROM holon_history WHERE worker_id = $1 AND (time, job, sequence) < ($2, $3, $4)
    ORDER BY time DESC, job DESC, sequence DESC LIMIT 1 OFFSET $5
"""
_PURGE = """
    WITH old AS (
        SELECT id FROM holon_jobs WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), lines AS (DELETE FROM holon_history WHERE job IN (SELECT id FROM old)),
    jobs AS (DELETE FROM holon_jobs WHERE id IN (SELECT id FROM old) RETURNING id)
    SELECT count(*) FROM jobs
"""


class PostgresHistory:
    """A history in a PostgreSQL database. Open while it is entered; it connects when it is used.

    Arguments:
        uri: `postgresql://user:password@host:port/database`, with the options that asyncpg has of libpq's.
        seal: what is secret is sealed with it.
    """

    def __init__(self, uri: str, seal: Seal | None = None) -> None:
        self._uri = uri
        self._seal = seal or Seal()
        self._pool: Pool[Any] | None = None
        self._upgraded = False
        self._upgrading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"PostgresHistory({'closed' if self._pool is None else 'open'})"

    async def __aenter__(self) -> Self:
        """Open it; a database that is away may come later.

        Raises:
            ConfigError: asyncpg is not installed, the URI is none, the database refuses this user, or its tables, does
                not exist, is a later release's, or has another encoding than UTF8.
        """
        try:
            import asyncpg
        except ImportError as error:
            raise ConfigError(
                "history in PostgreSQL needs asyncpg: pip install 'holon-node[history]', or unset HISTORY_DATABASE_URI"
            ) from error
        try:
            self._pool = await asyncpg.create_pool(
                self._uri, min_size=0, max_size=CONNECTIONS, timeout=CONNECT_S, command_timeout=STATEMENT_S
            )
            # Who holds its tables, as an upgrade does, does not hold up a start.
            async with asyncio.timeout(CONNECT_S), self._connection():
                pass
        except TimeoutError as error:
            self._say_away(away("PostgreSQL", error))
        except StoreUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, ConfigError):
                await self._close()
                raise cause from None
            if isinstance(cause, asyncpg.ClientConfigurationError):
                await self._close()
                raise _wrong_uri(cause) from None
            if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
                await self._close()
                raise ConfigError(f"HISTORY_DATABASE_URI: {cause}") from cause
            if isinstance(cause, asyncpg.SyntaxOrAccessError):
                # It answers: others have tables of these names there, or its user may not make any.
                await self._close()
                raise ConfigError(f"HISTORY_DATABASE_URI: the database cannot hold history: {cause}") from cause
            self._say_away(error)
        except ValueError:
            await self._close()
            raise _no_uri() from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; a server that does not answer is waited for a second."""
        await self._close()

    @staticmethod
    def _say_away(error: StoreUnavailable) -> None:
        log.warning("%s; history waits in the store meanwhile (HISTORY_DATABASE_URI)", error.message)

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await pool.close()
        except (TimeoutError, OSError):
            pool.terminate()

    async def add(self, notices: Sequence[Notice]) -> None:
        if not notices:
            return
        # Whatever the loop has to do for jobs comes in between.
        jobs, lines = await asyncio.to_thread(written, notices, self._seal)
        async with self._connection() as db, transaction(db):
            await db.execute(_ADD_JOBS, *zip(*jobs, strict=True))
            await db.execute(_ADD_LINES, *zip(*lines, strict=True))

    async def job(self, job_id: str) -> JobRecord | None:
        found = await self._fetch(_ONE, job_id)
        return job_record(found[0], self._seal) if found else None

    async def jobs(self, which: JobFilter, before: tuple[int, str] | None, limit: int) -> Sequence[JobRecord]:
        statuses = [str(status) for status in which.statuses]

        async def fetch(since: tuple[int, str] | None, count: int) -> list[tuple[Any, ...]]:
            time, last_id, after = bounds(which, since)

            async def look(before: tuple[int, str], skip: int) -> list[Any]:
                return await self._fetch(_LOOK_AT_JOBS, which.owner, *before, after, skip)

            async def some(before: tuple[int, str], upto: tuple[int, str], most: int) -> list[tuple[Any, ...]]:
                first = max(after, upto[0])
                return await self._fetch(_LIST, which.owner, *before, first, which.blueprint, statuses, *upto, most)

            if not is_choosy(which):
                return await some((time, last_id), NO_JOB, count)
            return await found_among(look, some, (time, last_id), NO_JOB, count)

        return await page_of(fetch, before, limit, self._seal)

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        return [job_id for (job_id,) in await self._fetch(_IDS, owner, prefix, limit)]

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        found = await self._fetch(_HISTORY, job_id, after, limit)
        return [(n, history_event(job_id, n, columns, self._seal)) for n, *columns in found]

    async def of_worker(
        self, owner: str, worker_id: str, before: tuple[int, str, int] | None, limit: int
    ) -> Sequence[WorkerEvent]:
        async def look(since: tuple[int, str, int], skip: int) -> list[Any]:
            return await self._fetch(_LOOK_AT_LINES, worker_id, *since, skip)

        async def some(since: tuple[int, str, int], upto: tuple[int, str, int], most: int) -> list[tuple[Any, ...]]:
            return await self._fetch(_OF_WORKER, worker_id, owner, *since, *upto, most)

        return worker_events(await found_among(look, some, before or END_OF_TIME, NO_LINE, limit), self._seal)

    async def purge(self, finished_before: int, limit: int) -> int:
        [(purged,)] = await self._fetch(_PURGE, finished_before, limit)
        return int(purged)

    async def _fetch(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self._connection() as db:
            return [tuple(row.values()) for row in await db.fetch(statement, *parameters)]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PoolConnectionProxy[Any]]:
        """A connection to a database that has this release's tables; what fails on it says that it is away.

        So does one that cannot hold history: the node runs, and who put it there may put another one in its place.
        """
        import asyncpg

        if self._pool is None:
            raise away("PostgreSQL", ValueError("it is not open, or closed again"))
        try:
            async with self._pool.acquire(timeout=CONNECT_S) as db:
                try:
                    await self._upgrade(db)
                    yield db
                except BaseException:
                    # What was set for its session, or a server that only reads by now, is not what a new one meets. Nor
                    # does who gives a statement up wait until a server that does not answer has heard of that.
                    with suppress(asyncpg.InterfaceError):
                        # One that the server has closed is the pool's again.
                        db.terminate()
                    raise
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            EOFError,
            ConfigError,
        ) as error:
            # Whatever it is, it may be another database, or an empty one, that answers next.
            self._upgraded = False
            raise away("PostgreSQL", _in_words(error)) from error

    async def _upgrade(self, db: PoolConnectionProxy[Any]) -> None:
        async with self._upgrading:
            if not self._upgraded:
                await upgrade(db)
                self._upgraded = True


def _in_words(error: Exception) -> Exception:
    """What an error says to who does not know asyncpg from within."""
    return ConnectionError("it ended the connection before it answered") if str(error) == _LOST else error


def _wrong_uri(error: Exception) -> ConfigError:
    """What is told of a URI that asyncpg cannot use; what it says of TLS shows nothing but the name of a file."""
    told = str(error.args[0]) if error.args else ""
    if told.startswith("root certificate"):
        return ConfigError(f"HISTORY_DATABASE_URI: {told}; name the authority's file with sslrootcert=/path/to/ca.pem")
    return ConfigError(f"HISTORY_DATABASE_URI: {told}") if told.startswith(_OF_TLS) else _no_uri()


def _no_uri() -> ConfigError:
    # What the parser says may show a part of the password.
    return ConfigError(
        "HISTORY_DATABASE_URI is no URI of PostgreSQL: it is postgresql://user:password@host:port/database, with what "
        "is special in its parts percent-encoded"
    )
