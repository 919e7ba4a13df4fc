"""What operations work on, in the thread that writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from holon.ports import StoreSettings
from holon.storage.ledger.row import Row
from holon.storage.ledger.rows import JobRow
from holon.storage.ledger.tables import Tables
from holon.storage.outbox import Outbox
from holon.storage.sealing import Seal
from holon.storage.sqlite.loading import Visitors
from holon.storage.sqlite.needs import Needs
from holon.storage.sqlite.purging import Purging
from holon.storage.sqlite.sheets import Sheets
from holon.storage.sqlite.untold import UntoldEnds, UntoldEvents


class Ledger:
    """What operations work on: the ledger's tables, and the jobs and the history that this transaction deletes.

    Arguments:
        db: the connection that writes.
        most: how many rows a transaction may have.
        outbox: whether history is moved.
        seal: what rows are sealed with.
    """

    def __init__(self, db: sqlite3.Connection, settings: StoreSettings, most: int, outbox: Outbox, seal: Seal) -> None:
        self.tables = Tables(settings)
        self.visitors = Visitors(db, seal)
        self.tables.load_job = self.visitors.job
        self.tables.load_task = self.visitors.task
        self.tables.load_request = self.visitors.request
        self.tables.load_late = self.visitors.late
        self.made = Sheets()
        self.offered = Sheets()
        self.needs = Needs()
        self.purging = Purging(db, most, moving=outbox.moving)
        self.settled: dict[tuple[int, int], int] = {}
        self.ends = UntoldEnds(db)
        self.events = UntoldEvents(db)
        self.now = 0

    def at(self, now: int) -> int:
        """An operation begins at this time, in epoch milliseconds; answers with that."""
        self.now = now
        return now

    def leave(self, over: Iterable[Row]) -> None:
        """The transaction is over; these rows are durable and will hardly be asked for again."""
        for row in over:
            self.tables.forget(row)
            if isinstance(row, JobRow):
                self.visitors.remember(row)
        self.visitors.leave()
        self.purging.clear()
        self.settled.clear()
        self.ends.clear()
        self.events.clear()
