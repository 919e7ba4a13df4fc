"""Checkpoints: what the write-ahead log holds is moved into the file by a thread of its own, while others go on.

A checkpoint waits for the disk several times as long as a commit. On the writer's thread every caller would wait too.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event, Thread

log = logging.getLogger(__name__)


class Checkpointer:
    """Moves the log when it is asked to. Asking again while it does is one more time, not two.

    Arguments:
        path: the file, which is open already.
        kind: the class of the connection.

    Attributes:
        length: how many pages the log had when it was moved last. They stay in it until a commit finds all of them
            moved, which under load none does.
    """

    def __init__(self, path: Path, kind: type[sqlite3.Connection]) -> None:
        self.error: sqlite3.Error | None = None
        self.busy = False
        self.length = 0
        self._path = path
        self._kind = kind
        self._asked = Event()
        self._closing = False
        # What was said last of a log that could not be moved; empty once it could.
        self._said = ""
        self._thread = Thread(target=self._run, name="holon-sqlite-checkpoints", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Checkpointer({self._path}, error={self.error!r})"

    @property
    def pending(self) -> bool:
        """Whether there is something still to be heard: it is at work, or has failed."""
        return self.busy or self.error is not None

    def ask(self) -> None:
        """Have the log moved, soon. `busy` until that is done, and `error` when it failed."""
        self.busy = True
        self._asked.set()

    def close(self) -> None:
        """End, after the checkpoint that is under way."""
        self._closing = True
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        with ExitStack() as opened:
            while True:
                self._asked.wait()
                self._asked.clear()
                if self._closing:
                    return
                try:
                    if db is None:
                        # There may be none to be had for now: then the writer moves the log.
                        connection = sqlite3.connect(self._path, isolation_level=None, factory=self._kind)
                        db = opened.enter_context(closing(connection))
                    self.length = move_log(db) or self.length
                    self._said = ""
                except sqlite3.Error as error:
                    if str(error) != self._said:
                        # Once, for it is tried again and again.
                        self._said = str(error)
                        log.warning("the log of the store's file %s stays as it is for now: %s", self._path, error)
                    self.error = error
                self.busy = False


def move_log(db: sqlite3.Connection) -> int | None:
    """Move what nobody needs in the log any more into the file.

    Returns:
        how many pages are in the log; None: somebody else is at it.
    Raises:
        sqlite3.Error: it cannot be moved.
    """
    busy, length, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return None if busy else int(length)
