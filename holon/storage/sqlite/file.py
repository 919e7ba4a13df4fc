"""The store's file and its log, as they were opened: whether they are still there, and what an error of them means."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from holon.errors import StoreUnavailable
from holon.storage.sqlite.opening import reason_of

# After these the file, or what the kernel has of it, cannot be trusted: a restart reads what is really there.
_BROKEN = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class File:
    """The file of a store, which is open, and its log.

    Arguments:
        path: the file.

    Attributes:
        log: where its write-ahead log is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_name(f"{path.name}-wal")
        # By what they are known, whatever stands at their names later.
        self._numbers = {file: number for file in (path, self.log) if (number := _number(file)) is not None}

    def __repr__(self) -> str:
        return f"File({self.path})"

    def look(self) -> None:
        """Raise if one of them is gone: SQLite goes on with what nobody will ever open again."""
        if (gone := self._gone()) is not None:
            raise gone

    def _gone(self) -> StoreUnavailable | None:
        for file, number in self._numbers.items():
            if _number(file) != number:
                return StoreUnavailable(
                    f"{file} was removed while the node ran: what it accepts from now on is in no file; the node has "
                    "to be restarted, with a backup of the file if there is one"
                )
        return None

    def broken(self, error: sqlite3.Error) -> StoreUnavailable | None:
        """What to say when an error means that only a restart mends them; None: it does not."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BROKEN:
            return None
        return self.failed(error)

    def failed(self, error: sqlite3.Error) -> StoreUnavailable:
        """What to say of an error after which nothing can be done with them."""
        # Who opens the file anew beside this, to move the log, may be the first to see it, and makes an empty one.
        return self._gone() or StoreUnavailable(
            f"the store's file {self.path} failed: {reason_of(self.path, error)}; "
            "the node has to be restarted, and the disk looked at"
        )


def _number(file: Path) -> int | None:
    """What tells a file from another one of its name; None where there is none."""
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None
