"""The only thread that writes: it runs operations on the ledger, and writes what a group of them changed at once.

What queued while a transaction ran shares the next one. Callers get their replies after its commit.
"""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from holon.clock import Clock
from holon.domain.value import replace
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import Hint, StoreSettings
from holon.storage.hints import Hints
from holon.storage.outbox import Outbox
from holon.storage.sealing import Seal
from holon.storage.sqlite.changes import Changes
from holon.storage.sqlite.file import File
from holon.storage.sqlite.known import Known, Told
from holon.storage.sqlite.lane import Call, Lane
from holon.storage.sqlite.loading import load
from holon.storage.sqlite.log_moves import LogMoves
from holon.storage.sqlite.opening import opened
from holon.storage.sqlite.work import Ledger
from holon.storage.waiting import RETRY_AFTER_S
from holon.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)

# The bounds of one transaction: operations, and rows that changed.
MAX_OPERATIONS = 256
MAX_ROWS = 2_000
# How often it is looked whether the files are there still, before what comes then is written (seconds).
LOOK_S = 1.0
# How far, in seconds, a clock may have been set back between two starts without a word.
AHEAD_S = 60.0

# These come from what one operation wanted to write, not from the file.
_OF_ONE = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)

_UNMOVED = "SELECT coalesce(sum(length(events)), 0) FROM history"
# What is written with a job need not be noted beside it.
_WRITTEN = """
    SELECT max(
        written,
        coalesce((SELECT max(finished_at) FROM jobs), 0),
        coalesce((SELECT max(updated_at) FROM jobs WHERE finished_at = 0), 0)
    ) FROM clock
"""


class Writer:
    """The body of the writer's lane.

    Arguments:
        path: the file.
        synchronous: "FULL" or "NORMAL".
        kind: the class of the connection.
        hints: where the ledger's hints are left, on the event loop.
        outbox: where it is counted how much history waits to be moved.
        known: the jobs that are told, on the event loop, as they are committed.
        seal: what rows are sealed with.
        metrics: where transactions are counted, by the writer's thread.
    """

    def __init__(
        self,
        path: Path,
        settings: StoreSettings,
        clock: Clock,
        synchronous: str,
        kind: type[sqlite3.Connection],
        hints: Hints,
        outbox: Outbox,
        known: Known,
        seal: Seal,
        metrics: StoreMetrics,
    ) -> None:
        self._path = path
        self._settings = settings
        self._clock = clock
        self._synchronous = synchronous
        self._kind = kind
        self._hints = hints
        self._outbox = outbox
        self._known = known
        self._seal = seal
        self._metrics = metrics
        # What was said last of the file's taking nothing; empty while it does.
        self._refusing = ""
        # What there is while it runs.
        self._file: File
        self._moves: LogMoves

    def run(self, lane: Lane[Ledger]) -> None:
        """Open the file, work until the lane is closed, and close it.

        Raises:
            ConfigError: the file cannot be opened, before the lane is ready.
            StoreUnavailable: the file is broken, or cannot be made durable; only a restart mends that.
        """
        with opened(self._path, self._synchronous, self._kind) as db:
            ledger = self._loaded(db)
            self._file = File(self._path)
            with LogMoves(self._file, db, self._kind, lambda: lane.waiting) as self._moves:
                lane.ready()
                self._work(lane, db, ledger)

    def _work(self, lane: Lane[Ledger], db: sqlite3.Connection, ledger: Ledger) -> None:
        looks_at = 0.0
        while (calls := lane.take(MAX_OPERATIONS, self._moves.patience)) is not None:
            idle = not calls
            if monotonic() >= looks_at:
                self._file.look()
                looks_at = monotonic() + LOOK_S
            while calls:
                calls = self._group(lane, db, ledger, calls)
            self._moves.go_on(idle=idle)

    def _loaded(self, db: sqlite3.Connection) -> Ledger:
        try:
            self._go_on_from(db.execute(_WRITTEN).fetchone()[0])
            ledger = Ledger(db, self._settings, MAX_ROWS, self._outbox, self._seal)
            if self._outbox.moving:
                (self._outbox.bytes,) = db.execute(_UNMOVED).fetchone()
            now = self._clock.now_ms()
            ledger.visitors.leave_out(load(db, ledger.tables, ledger.made, ledger.offered, self._seal, now))
        except sqlite3.Error as error:
            raise ConfigError(f"the store's file {self._path} cannot be read: {error}") from error
        return ledger

    def _go_on_from(self, written: int) -> None:
        """Have the clock begin no earlier than the last write, and say where it was set back by more than it drifts."""
        ahead_s = (written - self._clock.now_ms()) / 1000
        self._clock.not_before(written)
        if ahead_s > AHEAD_S:
            log.warning(
                "the store's file %s was last written at %s, %.0f s ahead of this machine's clock: time goes on from "
                "there, and certificates are judged by it; set the clock right, or put back an older copy",
                self._path,
                datetime.fromtimestamp(written / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
                ahead_s,
            )

    def _group(
        self, lane: Lane[Ledger], db: sqlite3.Connection, ledger: Ledger, calls: list[Call[Ledger]]
    ) -> list[Call[Ledger]]:
        """Run calls as one transaction, as far as it may grow; answers with the calls that are left."""
        tables = ledger.tables
        replies: list[Any] = []
        try:
            for call in calls:
                replies.append(call.operation(ledger))
                if len(tables.changed) >= MAX_ROWS:
                    break
            changes = Changes(
                tables,
                ledger.made,
                ledger.offered,
                ledger.needs,
                self._seal,
                ledger.purging,
                ledger.settled,
                ledger.ends,
                ledger.events,
                self._known.of_lines,
            )
            some = bool(changes)
            if some:
                self._write(changes, db, ledger, len(replies))
        except Exception as error:  # noqa: BLE001 -- whatever it is, nothing of the group may stay
            self._take_back(db, ledger)
            self._failed(lane, db, ledger, calls, error)
            return []
        if self._outbox.moving:
            self._outbox.bytes += changes.told() - sum(ledger.settled.values())
        if some and self._refusing:
            self._refusing = ""
            self._moves.taken_again()
            log.info("the store's file %s takes what is written again", self._path)
        changes.written()
        told = self._known.committed(tables, changes.lines)
        purged = bool(ledger.purging)
        ledger.leave(changes.over)
        hint = tables.done() or Hint()
        then = partial(self._hints.give, replace(hint, jobs=frozenset()))
        lane.answer(calls[: len(replies)], replies, partial(self._tell, hint.jobs, told, purged), then)
        if some:
            self._moves.grown(changes.volume())
        return calls[len(replies) :]

    def _tell(self, jobs: frozenset[str], told: Told, purged: bool) -> None:
        """Tell who waits for jobs that a transaction changed; called on the event loop.

        Before the replies, for somebody waits. All else is hinted at after them: whoever has the reply of a call that
        leased tasks forgets that such waited, and is then to hear of those that came since.
        """
        if purged:
            self._known.forget()
        if told:
            self._known.told(told)
        if jobs:
            self._hints.give(Hint(jobs=jobs))

    def _write(self, changes: Changes, db: sqlite3.Connection, ledger: Ledger, calls: int) -> None:
        began = perf_counter()
        changes.write(db, None if changes.tells(ledger.now) else self._clock.now_ms())
        self._metrics.writes.observe(perf_counter() - began)
        self._metrics.groups.observe(calls)
        self._metrics.history.add(by=sum([len(events) for _, _, events in ledger.tables.notices]))

    def _take_back(self, db: sqlite3.Connection, ledger: Ledger) -> None:
        ledger.tables.take_back()
        ledger.ends.take_back()
        ledger.events.take_back()
        ledger.leave(())
        # A full disk may have ended the transaction already.
        if db.in_transaction:
            try:
                db.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._file.failed(error) from error

    def _failed(
        self, lane: Lane[Ledger], db: sqlite3.Connection, ledger: Ledger, calls: list[Call[Ledger]], error: Exception
    ) -> None:
        """Tell the callers of a group that was taken back."""
        if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_ONE):
            if (broken := self._file.broken(error)) is not None:
                raise broken from error
            if str(error) != self._refusing:
                # Once, and not for each that comes: a full disk is to have room for other logs.
                self._refusing = str(error)
                log.warning("the store's file %s took nothing of %d calls: %s", self._path, len(calls), error)
            lane.refuse(calls, [_unavailable(error) for _ in calls])
            self._moves.refused()
        elif len(calls) == 1:
            lane.refuse(calls, [error])
        else:
            # One of them is at fault: each runs alone, so that it fails alone.
            for call in calls:
                self._group(lane, db, ledger, [call])


def _unavailable(error: sqlite3.Error) -> StoreUnavailable:
    return StoreUnavailable(f"the store could not write: {error}; nothing was done", retry_after=RETRY_AFTER_S)
