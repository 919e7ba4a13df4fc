"""The SQLite file: how it is made and opened."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holon.errors import ConfigError
from holon.files import make_folder
from holon.storage.sqlite.lock import FileLock
from holon.storage.sqlite.schema import upgrade

# A program that looks into the file from outside may hold it this long.
BUSY_SECONDS = 1.0
# More than the pages that are written again and again; of the others the system keeps copies.
CACHE_KIB = 16_384
LARGEST_LOG_BYTES = 64 * 2**20

# sqlite3 binds both as they are, but asks each first what it would rather be. Up to Python 3.12 that is an exception
# for each value; an adapter that gives back the same is asked instead.
sqlite3.register_adapter(bytes, bytes.__bytes__)
sqlite3.register_adapter(type(None), {None: None}.__getitem__)


@contextmanager
def opened(path: Path, synchronous: str, kind: type[sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    """The only connection that writes, under the node's lock, with this release's tables; closed at the end.

    Arguments:
        synchronous: "FULL" or "NORMAL".
        kind: the class of the connection.
    Raises:
        ConfigError: the file cannot be made or opened, is no database of ours, or belongs to another node.
    """
    try:
        make_private(path)
        lock = FileLock(path)
    except OSError as error:
        raise wrong(path, error) from error
    try:
        db = _connect(path, kind)
        try:
            _prepare(db, path, synchronous)
            yield db
        finally:
            db.close()
    finally:
        lock.release()


def _connect(path: Path, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, factory=kind)
    except sqlite3.Error as error:
        raise wrong(path, error) from error


def _prepare(db: sqlite3.Connection, path: Path, synchronous: str) -> None:
    try:
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {LARGEST_LOG_BYTES}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if sys.platform == "darwin":
            db.execute("PRAGMA fullfsync = ON")
            db.execute("PRAGMA checkpoint_fullfsync = ON")
        upgrade(db, path)
        if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise ConfigError(f"{path} cannot keep a write-ahead log; put it on a local file system")
    except sqlite3.Error as error:
        raise wrong(path, error) from error


def make_private(path: Path) -> None:
    """Make an empty file, and its directory, for this user alone, unless they are there.

    Raises:
        OSError: one cannot be made, or the file that is there is not this user's to write.
    """
    make_folder(path.parent)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # SQLite reads what it may not write, and says so at the first write. The file is not opened here to find out:
        # closing it would drop the locks of a connection that this process has to it.
        if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
        return
    # A new name is durable only when its directory is.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def reason_of(path: Path, error: Exception) -> str:
    """What an error of a file says, and that the disk is full if it is: SQLite has I/O errors of some of that.

    Arguments:
        path: the file.
    """
    try:
        full = isinstance(error, sqlite3.OperationalError) and os.statvfs(path.parent).f_bavail == 0
    except OSError:
        full = False
    return f"{error}, and its disk is full" if full else str(error)


def wrong(path: Path, error: Exception) -> ConfigError:
    """What to say when the store's file cannot be opened."""
    return ConfigError(f"the store's file {path} cannot be opened: {reason_of(path, error)}; see STORAGE_URI")
