"""When the write-ahead log is moved into the file: beside the writer, or, where that is not enough, by the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from holon.storage.sqlite.changes import PAGE
from holon.storage.sqlite.checkpoints import Checkpointer, move_log
from holon.storage.sqlite.file import File
from holon.storage.sqlite.room import Room

# The log is moved into the file when the store has been idle this long, or has written about this much (a page for each
# row, and several rows share one: it is a third of that in truth); and by the writer itself, which then nobody outruns,
# when it has grown too large for all that. The first time that the store has been idle the log is made as long as it
# will be.
IDLE_S = 1.0
LOG_BYTES = 16 * 2**20
LARGE_LOG_PAGES = 64 * 2**20 // PAGE
# And when nothing more can be written: a log that was moved is written over, and on a full disk there may be no other
# room. Where that is refused too, it is tried again after so many seconds, for nothing that is written asks for it.
FULL_S = 5.0


class LogMoves:
    """Has the log of a file moved, between transactions, while it is entered.

    Arguments:
        file: the file, which is open.
        db: the connection that writes.
        kind: the class of the connections.
        waiting: how many calls wait.
    """

    def __init__(
        self, file: File, db: sqlite3.Connection, kind: type[sqlite3.Connection], waiting: Callable[[], int]
    ) -> None:
        self._file = file
        self._db = db
        self._waiting = waiting
        self._checkpoints = Checkpointer(file.path, kind)
        self._room = Room(file.log, LOG_BYTES)
        self._log_bytes = 0
        # Whether the disk was full, and the log was not moved since; and when it may be, by `monotonic`.
        self._full = False
        self._moves_at = 0.0

    def __repr__(self) -> str:
        return f"LogMoves({self._file.log}, grown={self._log_bytes}, full={self._full})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, after the checkpoint that is under way."""
        self._checkpoints.close()

    @property
    def patience(self) -> float | None:
        """After how many seconds without a call there is something to do; None: not before the next one."""
        return IDLE_S if self._log_bytes or self._checkpoints.pending or not self._room.made else None

    def grown(self, by: int) -> None:
        """The log has got about so many bytes more."""
        self._log_bytes += by

    def refused(self) -> None:
        """The disk has taken nothing of a transaction."""
        self._full, self._log_bytes = True, LOG_BYTES

    def taken_again(self) -> None:
        """The disk takes what is written again."""
        # What has become free is for the file first: the log could take all of it, and never be moved.
        self._moves_at = 0.0

    def go_on(self, *, idle: bool) -> None:
        """Do what is to be done between transactions.

        Arguments:
            idle: whether no call came for a while.
        Raises:
            StoreUnavailable: the file or the log is gone or broken; only a restart mends that.
        """
        if (self._log_bytes >= LOG_BYTES or (idle and self._log_bytes)) and monotonic() >= self._moves_at:
            self._log_bytes = 0
            self._move()
        if (error := self._checkpoints.error) is not None:
            self._unmoved(error)
            self._checkpoints.error = None
        if idle and not self._room.made:
            self._room.make(self._db, self._waiting)

    def _move(self) -> None:
        """Have the log moved; here, where nothing is written meanwhile, if it has outgrown what is moved beside.

        Or the disk: then all that is free is for the file.
        """
        self._file.look()
        if self._checkpoints.length < LARGE_LOG_PAGES and not self._full:
            self._checkpoints.ask()
            return
        try:
            if move_log(self._db) is not None:
                self._checkpoints.length = 0
                self._full = False
        except sqlite3.Error as error:
            self._unmoved(error)

    def _unmoved(self, error: sqlite3.Error) -> None:
        """The log could not be moved, which is tried again later; raises if the error says that the file is broken."""
        if (broken := self._file.broken(error)) is not None:
            raise broken from error
        self._full, self._moves_at = True, monotonic() + FULL_S
        self._log_bytes = max(self._log_bytes, 1)
