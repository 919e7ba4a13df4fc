"""The SQLite file: its tables, and how a file of an earlier release becomes one of this release.

Where a column of times holds 0, and one of text or bytes is empty, there is nothing. That is cheaper than NULL.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from holon.errors import ConfigError

# "HOLN": tells our files from those of other programs.
APPLICATION_ID = 0x484F4C4E

# A job's state stands apart where it is large, so that a row that changes often stays small however large that is.
_FIRST = (
    """
    CREATE TABLE jobs (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        blueprint TEXT NOT NULL,
        request_id TEXT,
        request_digest BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        step INTEGER NOT NULL,
        commit_id TEXT NOT NULL,
        progress REAL,
        message TEXT NOT NULL,
        history_seq INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        wake_at INTEGER NOT NULL,
        wake_step INTEGER NOT NULL,
        open_step INTEGER NOT NULL,
        open_count INTEGER NOT NULL,
        inbox_seq INTEGER NOT NULL,
        inbox BLOB NOT NULL,
        dedups BLOB NOT NULL
    )
    """,
    "CREATE INDEX jobs_by_owner ON jobs (owner)",
    "CREATE INDEX jobs_by_end ON jobs (finished_at)",
    "CREATE UNIQUE INDEX jobs_by_request ON jobs (owner, request_id) WHERE request_id IS NOT NULL",
    "CREATE TABLE states (n INTEGER PRIMARY KEY, state BLOB NOT NULL)",
    """
    CREATE TABLE fan_outs (
        n INTEGER PRIMARY KEY,
        step INTEGER NOT NULL,
        total INTEGER NOT NULL,
        fail_fast INTEGER NOT NULL,
        pending INTEGER NOT NULL,
        spawned INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        progress REAL NOT NULL,
        bytes INTEGER NOT NULL,
        over INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE chunks (
        n INTEGER NOT NULL,
        place INTEGER NOT NULL,
        chunk BLOB NOT NULL,
        PRIMARY KEY (n, place)
    )
    """,
    """
    CREATE TABLE tasks (
        n INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        step INTEGER NOT NULL,
        place INTEGER NOT NULL,
        branch INTEGER NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        facts BLOB NOT NULL,
        params BLOB NOT NULL,
        outcome BLOB NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX tasks_of_job ON tasks (job, step, place)",
    "CREATE TABLE needs (key TEXT PRIMARY KEY, need BLOB NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE history (
        job INTEGER NOT NULL,
        last INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY (job, last)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE clock (written INTEGER NOT NULL)",
    "INSERT INTO clock VALUES (0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

# What nodes share beside jobs. The quotas' periods have names, such as 2026-11.
_SHARED = (
    """
    CREATE TABLE documents (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        value BLOB NOT NULL,
        expires_at INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE quotas (
        key TEXT NOT NULL,
        period TEXT NOT NULL,
        used INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        PRIMARY KEY (key, period)
    ) WITHOUT ROWID
    """,
)

# Each brings a file from the version before to its own; a new release appends, and changes none of these.
VERSIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _SHARED,
    (
        # About the number of the newest job whose task had it. Those of before count as of now.
        "ALTER TABLE needs ADD COLUMN job INTEGER NOT NULL DEFAULT 0",
        "UPDATE needs SET job = coalesce((SELECT max(n) FROM jobs), 0)",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN budget INTEGER",
        "ALTER TABLE jobs ADD COLUMN cost INTEGER",
        "ALTER TABLE jobs ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN unreported BLOB NOT NULL DEFAULT ''",
    ),
    (
        "CREATE TABLE sheets (n INTEGER PRIMARY KEY, job INTEGER NOT NULL, tasks BLOB NOT NULL)",
        "CREATE TABLE offers (n INTEGER PRIMARY KEY, offers BLOB NOT NULL)",
    ),
    (
        # A state that is small is in its job's row; where that has none, it is in `states`.
        "ALTER TABLE jobs ADD COLUMN state BLOB",
        """
        CREATE TABLE endings (
            n INTEGER PRIMARY KEY,
            job INTEGER NOT NULL,
            step INTEGER NOT NULL,
            first INTEGER NOT NULL,
            last INTEGER NOT NULL,
            places TEXT NOT NULL,
            ends BLOB NOT NULL,
            outcomes BLOB NOT NULL
        )
        """,
        "CREATE INDEX endings_of_job ON endings (job, step)",
    ),
    (
        # Late results are few, and each is looked for by its task, whose number is no other job's.
        """
        CREATE TABLE lates (
            task INTEGER NOT NULL,
            worker TEXT NOT NULL,
            job INTEGER NOT NULL,
            told INTEGER NOT NULL,
            PRIMARY KEY (task, worker)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX lates_of_job ON lates (job)",
    ),
    # The last number that was used when something was deleted: it may have gone with that, and is not used again.
    ("ALTER TABLE clock ADD COLUMN number INTEGER NOT NULL DEFAULT 0",),
    (
        # Of jobs that have ended, whose end somebody is to be told: from when on.
        "CREATE TABLE ends (job INTEGER PRIMARY KEY, due INTEGER NOT NULL)",
        "CREATE INDEX ends_by_due ON ends (due)",
    ),
    (
        # Of jobs that have events which somebody is to be told of: from when on; of their history, those after one line
        # and up to another.
        """
        CREATE TABLE happened (
            job INTEGER PRIMARY KEY,
            due INTEGER NOT NULL,
            told INTEGER NOT NULL,
            last INTEGER NOT NULL
        )
        """,
        "CREATE INDEX happened_by_due ON happened (due)",
    ),
    # Its records are of schema 11, which an earlier release does not read.
    (),
    # And of schema 12.
    (),
)


def upgrade(db: sqlite3.Connection, path: Path) -> None:
    """Bring an open file to this release's version, each version in a transaction of its own.

    Raises:
        ConfigError: the file is another program's, or a later release wrote it.
    """
    (ours,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if ours != APPLICATION_ID and (ours or version or tables):
        raise ConfigError(f"{path} is a database of another program; name another file in STORAGE_URI")
    if version > len(VERSIONS):
        raise ConfigError(
            f"{path} has version {version}, and this release knows versions up to {len(VERSIONS)}: "
            "run the release that wrote it, or name another file in STORAGE_URI"
        )
    for number, statements in enumerate(VERSIONS[version:], start=version + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
