"""The SQLite file of history: its tables, and how a file of an earlier release becomes one of this release."""

from __future__ import annotations

from pathlib import Path

import aiosqlite

from holon.errors import ConfigError

# "HOLH": tells these files from stores, and from those of other programs.
APPLICATION_ID = 0x484F4C48

_FIRST = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        blueprint TEXT NOT NULL,
        status TEXT NOT NULL,
        current_state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        finished_at INTEGER,
        sequence INTEGER NOT NULL,
        progress REAL,
        message TEXT NOT NULL,
        result TEXT,
        error_code TEXT,
        error_message TEXT,
        error_details TEXT
    )
    """,
    "CREATE INDEX jobs_by_creation ON jobs (owner, created_at, id)",
    "CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL",
    """
    CREATE TABLE history (
        job TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        time INTEGER NOT NULL,
        type TEXT NOT NULL,
        state TEXT,
        previous_state TEXT,
        next_state TEXT,
        duration_ms INTEGER,
        worker_id TEXT,
        attempt_number INTEGER,
        task_id TEXT,
        details TEXT,
        PRIMARY KEY (job, sequence)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX history_by_worker ON history (worker_id, time, job, sequence) WHERE worker_id IS NOT NULL",
    "CREATE INDEX history_by_time ON history (time)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

# Each brings a file from the version before to its own; a new release appends, and changes none of these.
VERSIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    ("ALTER TABLE jobs ADD COLUMN sealed BLOB", "ALTER TABLE history ADD COLUMN sealed BLOB"),
    ("ALTER TABLE jobs ADD COLUMN cost INTEGER",),
)


async def upgrade(db: aiosqlite.Connection, path: Path) -> None:
    """Bring an open file to this release's version, in one transaction; one that has it needs none.

    Raises:
        ConfigError: the file is another program's, or a later release wrote it.
    """
    # Whoever else writes to it may take long.
    if await _facts(db) == (APPLICATION_ID, len(VERSIONS)):
        return
    await db.execute_fetchall("BEGIN IMMEDIATE")
    ours, version = await _facts(db)
    tables = await _number(db, "SELECT count(*) FROM sqlite_master")
    if ours != APPLICATION_ID and (ours or version or tables):
        raise ConfigError(f"{path} is no file of history; name another one in HISTORY_DATABASE_URI")
    if version > len(VERSIONS):
        raise ConfigError(
            f"{path} has version {version}, and this release knows versions up to {len(VERSIONS)}: "
            "run the release that wrote it, or name another file in HISTORY_DATABASE_URI"
        )
    for statements in VERSIONS[version:]:
        for statement in statements:
            await db.execute_fetchall(statement)
    await db.execute_fetchall(f"PRAGMA user_version = {len(VERSIONS)}")
    await db.execute_fetchall("COMMIT")


async def _facts(db: aiosqlite.Connection) -> tuple[int, int]:
    """Whose file it is, and its version."""
    return await _number(db, "PRAGMA application_id"), await _number(db, "PRAGMA user_version")


async def _number(db: aiosqlite.Connection, query: str) -> int:
    [row] = await db.execute_fetchall(query)
    return int(row[0])
