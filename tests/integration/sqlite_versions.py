"""Makes a SQLite file one of an earlier release, as far as tests go back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from holon.storage.sqlite import schema

# What undoes each version. Nothing may be in the tables that it drops.
_UNDO = {
    5: ("DROP TABLE sheets", "DROP TABLE offers"),
    6: (
        "INSERT OR REPLACE INTO states SELECT n, state FROM jobs WHERE state IS NOT NULL",
        "ALTER TABLE jobs DROP COLUMN state",
        "DROP TABLE endings",
    ),
    7: ("DROP TABLE lates",),
    8: ("ALTER TABLE clock DROP COLUMN number",),
    9: ("DROP TABLE ends",),
    10: ("DROP TABLE happened",),
    11: (),
    12: (),
}


def back_to(path: Path, version: int) -> None:
    """Have a closed file be of this version."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for newer in range(len(schema.VERSIONS), version, -1):
            for statement in _UNDO[newer]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
