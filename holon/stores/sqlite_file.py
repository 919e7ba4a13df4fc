"""The SQLite file of a store: one process at a time, made private, checked for what another version made."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

from holon.errors import ConfigError, StoreBroken, StoreUnavailable, Violation
from holon.files import make_folder

log = logging.getLogger(__name__)

# "holn" in ASCII, and the number of the layout below.
APPLICATION_ID = 0x686F6C6E
LAYOUT = 1
# Stores that were made before layout 1.
OLDER_APPLICATION_ID = 0x484F4C4E
# Where the header of a database has both numbers; see https://sqlite.org/fileformat.html.
_HEADER = struct.Struct(">16s44xI4xI")
_MAGIC = b"SQLite format 3\0"

# Another program that reads the file may hold it this long, in seconds.
BUSY_S = 1.0
CACHE_KIB = 65_536
# The log is moved into the file when it has this many pages; the writer itself moves a log that outgrew that.
CHECKPOINT_PAGES = 4_000
LARGE_LOG_PAGES = 4 * CHECKPOINT_PAGES
LARGEST_LOG_BYTES = 64 * 2**20

TABLES = """
CREATE TABLE store (id TEXT NOT NULL, generation INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE TABLE head (
    epoch INTEGER NOT NULL, token TEXT NOT NULL, batch INTEGER NOT NULL, time INTEGER NOT NULL, node TEXT NOT NULL,
    schema INTEGER NOT NULL
);
CREATE TABLE row (job TEXT, name TEXT, value BLOB NOT NULL, PRIMARY KEY (job, name));
CREATE TABLE entry (name TEXT, score INTEGER, member TEXT, PRIMARY KEY (name, score, member)) WITHOUT ROWID;
CREATE TABLE record (
    kind TEXT, key TEXT, version INTEGER NOT NULL, value BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (kind, key)
);
CREATE TABLE counter (
    kind TEXT, key TEXT, value INTEGER NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX record_expiry ON record (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX counter_expiry ON counter (expires_at);
"""

# After these errors the file, or the kernel's copy of it, cannot be trusted; a restart reads what is on the disk.
_BROKEN = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# A byte far behind those that SQLite locks.
_LOCKED_BYTE = 2**62


class StoreFile:
    """The open file: its lock, the connection that writes, and the thread that moves its log.

    Arguments:
        path: the file; it is made if it is not there, for this user alone.
        synchronous: "FULL" or "NORMAL"; see https://sqlite.org/pragma.html#pragma_synchronous.
    Raises:
        ConfigError: the file cannot be made or opened, another process has it, or another version made it.
    """

    def __init__(self, path: Path, synchronous: str) -> None:
        self.path = path
        try:
            # A link may name a file that is not there yet.
            make_private(path.resolve())
            self._lock = _FileLock(path)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            self.db = sqlite3.connect(
                path, BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            try:
                self._prepare(synchronous)
            except BaseException:
                self.db.close()
                raise
        except sqlite3.Error as error:
            self._lock.release()
            raise _unusable(path, error) from error
        except BaseException:
            self._lock.release()
            raise
        self._inodes = {
            file: file.stat().st_ino for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()
        }
        self._checkpoints = _Checkpoints(path)
        self._unmoved = 0

    def __repr__(self) -> str:
        return f"StoreFile({self.path})"

    def _prepare(self, synchronous: str) -> None:
        db = self.db
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {LARGEST_LOG_BYTES}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if sys.platform == "darwin":
            db.execute("PRAGMA fullfsync = ON")
            db.execute("PRAGMA checkpoint_fullfsync = ON")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (layout,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application, layout) != (APPLICATION_ID, LAYOUT) and (application or layout or tables):
            raise _foreign(self.path, application, layout)
        if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise ConfigError(f"{self.path} cannot keep a write-ahead log; put it on a local file system")
        if not tables:
            db.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {LAYOUT}; {TABLES}"
                f"INSERT INTO store VALUES ('{secrets.token_hex(8)}', 1, 0);"
                "INSERT INTO head VALUES (0, '', 0, 0, '', 0); COMMIT;"
            )

    def reader(self) -> str:
        """A URI with which another connection of this process can read the file."""
        return f"{self.path.absolute().as_uri()}?mode=ro"

    def check(self) -> None:
        """Raise StoreBroken if the file or its log was removed, or cannot be reached by its name.

        SQLite would go on writing to files without a name.
        """
        for file, inode in self._inodes.items():
            if _inode(file) != inode:
                raise StoreBroken(
                    f"{file} was removed while the node ran, or cannot be reached any more, so what the node accepts "
                    "now would be lost. Restart the node, with a backup of the file if there is one"
                )

    def error(self, error: sqlite3.Error) -> StoreUnavailable | StoreBroken:
        """What an error of a transaction means."""
        text = f"the store's file {self.path}: {reason_of(self.path, error)}"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            return StoreBroken(f"{text}. Look at the disk, then restart the node")
        return StoreUnavailable(text, retry_after=1.0)

    def move_log(self, *, idle: bool) -> None:
        """Move the log into the file if it is long, or if nothing else is to be done.

        A thread does it beside the writer. A log that outgrew that is moved here, while nobody writes.
        """
        if self._unmoved >= CHECKPOINT_PAGES or (idle and self._unmoved):
            self._unmoved = 0
            self._checkpoints.ask()
        if self._checkpoints.pages >= LARGE_LOG_PAGES:
            try:
                self._checkpoints.pages = _move_log(self.db)
            except sqlite3.Error as error:
                log.warning("the log of %s stays as it is for now: %s", self.path, error)

    def grown(self, rows: int) -> None:
        """Count what a transaction wrote, about a page for each row."""
        self._unmoved += rows

    def close(self) -> None:
        """Close the file and let the next process have it."""
        try:
            self._checkpoints.close()
            self.db.close()
        finally:
            self._lock.release()


class _Checkpoints:
    """A thread that moves the log into the file, beside the writer: a checkpoint takes as long as several commits."""

    def __init__(self, path: Path) -> None:
        # How long the log was after the last move, in pages. SQLite starts it over once all of it was moved.
        self.pages = 0
        self._path = path
        self._asked = Event()
        self._closing = False
        self._thread = Thread(target=self._run, name="holon-sqlite-checkpoints", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        self._asked.set()

    def close(self) -> None:
        self._closing = True
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            while True:
                self._asked.wait()
                self._asked.clear()
                if self._closing:
                    return
                try:
                    self.pages = _move_log(db)
                except sqlite3.Error as error:
                    log.warning("the log of %s stays as it is for now: %s", self._path, error)


def _move_log(db: sqlite3.Connection) -> int:
    """Move what no reader needs out of the log. Returns how many pages the log has, 0 if all were moved."""
    _, length, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return 0 if moved == length else int(length)


class _FileLock:
    """An exclusive lock, held until `release` or the end of the process.

    It locks a file beside the database, and on Linux a byte of the database itself, for whoever reaches the same file
    by another name (a hard link, a mount). `release` comes after SQLite closed the database: closing any descriptor of
    a file drops the locks that SQLite has on it.
    """

    def __init__(self, database: Path) -> None:
        file = database.resolve()
        self._beside = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._inside: int | None = None
        try:
            fcntl.flock(self._beside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._inside = _lock_inside(file)
            os.ftruncate(self._beside, 0)
            os.pwrite(self._beside, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            pid = os.pread(self._beside, 32, 0).decode(errors="replace").strip()
            self.release()
            raise ConfigError(
                f"{database} belongs to another node (process {pid or 'unknown'}): stop that one first, or name "
                "another file in STORAGE_URI"
            ) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._inside is not None:
            os.close(self._inside)
        os.close(self._beside)


def _lock_inside(file: Path) -> int | None:
    """Lock a byte of the database that SQLite never locks; None where the system cannot."""
    if sys.platform != "linux":
        return None
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        # A lock of the descriptor, not of the process as SQLite's are.
        fcntl.fcntl(
            descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
        )
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(error.errno, error.strerror) from error
        return None
    return descriptor


def make_private(path: Path) -> None:
    """Make the file and its folder for this user alone, unless they are there."""
    make_folder(path.parent)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # SQLite reads what it may not write, and says so at the first write. The file is not opened here to find out:
        # closing it would drop the locks of a connection that this process has to it.
        if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
        return
    # The new name is durable once its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _inode(file: Path) -> int | None:
    """The inode of a file; None if the file is gone, or cannot be reached by its name."""
    try:
        return file.stat().st_ino
    except OSError:
        return None


def reason_of(path: Path, error: Exception) -> str:
    """The text of an error; SQLite calls some of those of a full disk I/O errors."""
    try:
        full = isinstance(error, sqlite3.Error) and os.statvfs(path.parent).f_bavail == 0
    except OSError:
        full = False
    return f"{error}, and the disk is full" if full else str(error)


def check_file(path: Path) -> None:
    """Raise ConfigError if there is a file and it is no store of this version. It is only read."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    if not header:
        return
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise _unusable(path, ValueError("file is not a database"))
    _, layout, application = _HEADER.unpack(header)
    # A database without either number may be new, with its first commit in the log only.
    if (application, layout) not in ((APPLICATION_ID, LAYOUT), (0, 0)):
        raise _foreign(path, application, layout)


def _foreign(path: Path, application: int, layout: int) -> ConfigError:
    """The error for a database that is no store of this version."""
    if application == OLDER_APPLICATION_ID:
        who, then = "an older version of Holon made it", "Its jobs can end under that version. To"
    elif application == APPLICATION_ID and layout > LAYOUT:
        who, then = f"a newer version of Holon made it (layout {layout})", "Start that version. Or, to"
    else:
        who, then = "another program made it", "To"
    text = (
        f"{path} is no store of this version: {who}. {then} start anew with an empty store, move the file away, or "
        "name another file in STORAGE_URI"
    )
    return ConfigError(text, details=[Violation("STORAGE_URI", text)])


def _unusable(path: Path, error: Exception) -> ConfigError:
    text = f"the store's file {path} cannot be opened: {reason_of(path, error)}; see STORAGE_URI"
    return ConfigError(text, details=[Violation("STORAGE_URI", text)])
