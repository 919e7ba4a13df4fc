"""The PostgreSQL database of history: its tables, and how those of an earlier release become those of this release."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from holon.errors import ConfigError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

ENCODING = "UTF8"
# "HOLH": nodes that start together upgrade one after the other.
LOCK = 0x484F4C48

_FIRST = (
    """
    CREATE TABLE holon_jobs (
        id text PRIMARY KEY,
        owner text NOT NULL,
        blueprint text NOT NULL,
        status text NOT NULL,
        current_state text NOT NULL,
        created_at bigint NOT NULL,
        updated_at bigint NOT NULL,
        finished_at bigint,
        sequence bigint NOT NULL,
        progress double precision,
        message text NOT NULL,
        result json,
        error_code text,
        error_message text,
        error_details json
    )
    """,
    "CREATE INDEX holon_jobs_by_creation ON holon_jobs (owner, created_at, id)",
    "CREATE INDEX holon_jobs_by_end ON holon_jobs (finished_at) WHERE finished_at IS NOT NULL",
    """
    CREATE TABLE holon_history (
        job text NOT NULL,
        sequence bigint NOT NULL,
        time bigint NOT NULL,
        type text NOT NULL,
        state text,
        previous_state text,
        next_state text,
        duration_ms bigint,
        worker_id text,
        attempt_number bigint,
        task_id text,
        details json,
        PRIMARY KEY (job, sequence)
    )
    """,
    """
    CREATE INDEX holon_history_by_worker ON holon_history (worker_id, time, job, sequence)
    WHERE worker_id IS NOT NULL
    """,
    # Lines come in about the order of their times, so that a few bytes for each stretch of the table are enough.
    "CREATE INDEX holon_history_by_time ON holon_history USING brin (time)",
)

# Each brings a database from the version before to its own; a new release appends, and changes none of these.
VERSIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    ("ALTER TABLE holon_jobs ADD COLUMN sealed bytea", "ALTER TABLE holon_history ADD COLUMN sealed bytea"),
    ("ALTER TABLE holon_jobs ADD COLUMN cost bigint",),
)


@asynccontextmanager
async def transaction(db: PoolConnectionProxy[Any]) -> AsyncIterator[None]:
    """A transaction of a connection that is ended when anything fails on it: then nothing else has to be said there.

    To roll back would wait for a server that does not answer, and on a connection that is lost it fails: that would be
    told of, and not why.
    """
    begun = db.transaction()
    await begun.start()
    yield
    await begun.commit()


async def upgrade(db: PoolConnectionProxy[Any]) -> None:
    """Bring a database to this release's version, in one transaction.

    Raises:
        ConfigError: a later release wrote it, or it cannot hold every character.
    """
    # One character that it has not would keep all history behind it from moving.
    encoding = await db.fetchval("SHOW server_encoding")
    if encoding != ENCODING:
        raise ConfigError(
            f"HISTORY_DATABASE_URI: the database has the encoding {encoding}, and history may have any character: "
            f"create one with ENCODING '{ENCODING}', and name that"
        )
    async with transaction(db):
        await db.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await db.execute("CREATE TABLE IF NOT EXISTS holon_history_version (version integer NOT NULL)")
        version = await db.fetchval("SELECT coalesce(max(version), 0) FROM holon_history_version")
        if version > len(VERSIONS):
            raise ConfigError(
                f"the database of history has version {version}, and this release knows versions up to "
                f"{len(VERSIONS)}: run the release that wrote it, or name another in HISTORY_DATABASE_URI"
            )
        for number, statements in enumerate(VERSIONS[version:], start=version + 1):
            for statement in statements:
                await db.execute(statement)
            await db.execute("INSERT INTO holon_history_version VALUES ($1)", number)
