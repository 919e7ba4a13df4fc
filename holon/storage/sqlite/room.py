"""Room in the write-ahead log: commits write over zeros that are in the file already.

A commit that makes its file longer has the file system note that too, which the disk is waited for once more. SQLite
keeps a log that has been moved, and writes over it from its beginning; so this is for the first log of a file that was
opened. What is behind the last commit is no part of a log: its frames carry numbers that zeros have not
(https://sqlite.org/fileformat2.html#walformat).
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

PIECE = 2**20
# Where less is free, in sizes of a log, what there is is for jobs.
_FREE = 10


class Room:
    """Makes a log as long as it will be, a piece at a time.

    Arguments:
        path: the log.
        size: how long, in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.made = False
        self._path = path
        self._size = size

    def __repr__(self) -> str:
        return f"Room({self._path}, made={self.made})"

    def make(self, db: sqlite3.Connection, waiting: Callable[[], int]) -> None:
        """Go on until it is made, or somebody waits. Where the disk will not, the log grows as it is written.

        Arguments:
            db: the connection that writes; it is in no transaction.
            waiting: how many wait for it.
        """
        try:
            # Whoever else would write waits, and does not write where zeros are written.
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            log.debug("the log %s is given no room for now: %s", self._path, error)
            return
        try:
            with self._path.open("r+b", buffering=0) as file:
                self._pieces(file.fileno(), waiting)
        except OSError as error:
            log.debug("the log %s is given no more room: %s", self._path, error)
            self.made = True
        finally:
            db.execute("ROLLBACK")

    def _pieces(self, file: int, waiting: Callable[[], int]) -> None:
        disk, before = os.fstatvfs(file), os.fstat(file).st_size
        self.made = disk.f_bavail * disk.f_frsize < _FREE * self._size
        end = before
        try:
            while not self.made and not waiting():
                more = max(0, min(PIECE, self._size - end))
                os.pwrite(file, bytes(more), end)
                os.fsync(file)
                end += more
                self.made = more < PIECE
        except OSError:
            os.ftruncate(file, before)
            raise
