#!/usr/bin/env python3
"""Copies the SQLite store of a node into a file of its own, while the node goes on with its work.

    backup.py STORE FOLDER        such as: backup.py /var/lib/holon/holon.db /var/backups/holon

The copy is what was committed at one moment. It is checked and on the disk before it gets its name, which is printed.
It needs Python 3.11 or newer and nothing else. Exit: 0 done; 1 not done, and nothing is left; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

# What commits one moment holds the file for less.
BUSY_SECONDS = 30


def main() -> int:
    """Parse the command line and run it; the exit code."""
    parser = argparse.ArgumentParser(prog="backup.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path, help="the file of STORAGE_URI, or of HISTORY_DATABASE_URI")
    parser.add_argument("folder", type=Path, help="where the copy goes; it is there already")
    arguments = parser.parse_args()
    try:
        print(copied(arguments.store, arguments.folder))
    except (sqlite3.Error, OSError) as error:
        print(f"backup.py: {arguments.store} was not copied into {arguments.folder}: {error}", file=sys.stderr)
        return 1
    return 0


def copied(store: Path, folder: Path) -> Path:
    """The copy, readable by its owner alone.

    Raises:
        sqlite3.Error, OSError: it could not be made, or is not sound; what there was of it is gone.
    """
    os.umask(0o077)
    copy = folder / f"{store.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{store.suffix}"
    unfinished = copy.with_name(f".{copy.name}.unfinished")
    try:
        # One transaction that reads: whoever writes goes on, and nothing begins anew because of it.
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as db:
            db.execute("VACUUM INTO ?", (str(unfinished),))
        with closing(sqlite3.connect(unfinished)) as db:
            [(verdict,), *more] = db.execute("PRAGMA integrity_check").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is not sound: {verdict}, and {len(more)} more")
        synced(unfinished)
        unfinished.rename(copy)
        synced(folder)
    finally:
        unfinished.unlink(missing_ok=True)
    return copy


def synced(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
