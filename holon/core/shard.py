"""A shard: the changes of its rows for the next batch, and its indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from holon.core import codec as names
from holon.core.codec import Codec
from holon.core.row import Row
from holon.core.rows import OVER, JobRow, LateRow, Stored, TaskRow
from holon.core.tables import NUMBERS_A_MS, Tables
from holon.core.writer import Cut, Ownership
from holon.domain.events import HistoryEvent
from holon.stores.port import Entry, RowKey, RowStore
from holon.stores.port import Row as StoredRow
from holon.stores.records import pack

# Indexes of all owners. LIVE: jobs that are not over, by arrival. ENDED: jobs that are over, by their end. ENDS and
# EVENTS: jobs with pending webhook notifications of their end or events, by due time. HISTORY: pages of history to move
# to the database of history, by the time of their batch.
LIVE, ENDED, ENDS, EVENTS, HISTORY = "live", "ended", "ends", "events", "history"


def all_of(owner: str) -> str:
    """The index of all jobs of an owner."""
    return f"all:{owner}"


def live_of(owner: str) -> str:
    """The index of an owner's jobs that are not over."""
    return f"live:{owner}"


def over_of(owner: str, status: str) -> str:
    """The index of an owner's jobs that ended with a status."""
    return f"over:{status}:{owner}"


def page_member(job_id: str, first: int, size: int) -> str:
    """The member of a page of history in the HISTORY index; `size` is in bytes.

    `first` is padded, so that the pages of a job that have one score stand in order.
    """
    return f"{job_id}:{first:010}:{size}"


def page_of(member: str) -> tuple[str, int, int]:
    """The job id, the number of the first line and the size in bytes of a page, from its `page_member`."""
    job_id, first, size = member.rsplit(":", 2)
    return job_id, int(first), int(size)


class Over(Protocol):
    """Where durable rows go that are over; they leave the tables."""

    def keep(self, row: JobRow | TaskRow | LateRow) -> None:
        """Keep a row."""
        ...

    def evict(self) -> None:
        """Forget rows beyond the limits."""
        ...


class Shard:
    """What is to be written of one shard, whose rows are in the tables of the node.

    Arguments:
        number: which shard it is.
        tables: where its rows are.
        codec: packs its rows.
        finished: where its durable rows go that are over.
        lost: called with the shard when it is lost.

    Attributes:
        owned: the node's ownership of it, once it is loaded.
        ended: the number of its jobs that are over.
        unmoved: the bytes of history that wait to be moved.
        unmoved_pages: the number of pages that wait, by job id.
        purges: how many jobs were purged since the node owns it.
        lost_because: why the shard was lost; empty while it is owned.
    """

    owned: Ownership

    def __init__(
        self,
        number: int,
        tables: Tables,
        codec: Codec,
        finished: Over,
        lost: Callable[[Shard], object],
    ) -> None:
        self.number = number
        self.codec = codec
        self.ended = 0
        self.unmoved = 0
        self.unmoved_pages: Counter[str] = Counter()
        self.purges = 0
        self.lost_because = ""
        self._tables = tables
        self._finished = finished
        self._lost = lost
        self._moving = tables.settings.history_backlog is not None
        self._stamp = 0
        # The greatest arrival number in a cut.
        self._last = 0
        # Changes since the last cut: rows, lines of history (by job, with the number of the first), puts, deletes.
        self._dirty: dict[Row, None] = {}
        self._lines: dict[JobRow, tuple[int, list[HistoryEvent]]] = {}
        self._puts: list[StoredRow] = []
        self._deletes: list[RowKey] = []
        self._new_entries: list[Entry] = []
        # Purged jobs that are in no batch yet, and those in the batch in flight.
        self._purged: dict[str, None] = {}
        self._going: dict[str, None] = {}
        self._removed: list[Entry] = []
        # Rows of the batch in flight. `_flying` are those that leave memory once the batch is durable.
        self._in_flight: dict[Row, None] = {}
        self._flying: dict[JobRow | TaskRow | LateRow, None] = {}

    def __repr__(self) -> str:
        return f"Shard({self.number}, dirty={len(self._dirty)})"

    # Changes to write ------------------------------------------------------------------------------------------

    def change(self, row: Row, now: int) -> None:
        """A row was changed."""
        self._stamp = max(self._stamp, now)
        self._dirty[row] = None

    def tell(self, row: JobRow, first: int, lines: Iterable[HistoryEvent]) -> None:
        """Lines of history were added to a job; `first` is the number of the first."""
        known = self._lines.get(row)
        if known is None:
            self._lines[row] = first, list(lines)
        else:
            known[1].extend(lines)

    def purge(self, row: JobRow) -> None:
        """Delete a durable job that is over, with all its rows and index entries."""
        assert row.stored is not None  # noqa: S101  as it is durable
        assert row.stored.place is not None  # noqa: S101  likewise
        self._purged[row.id] = None
        self.purges += 1
        self._removed += _entries(row, row.stored.place)
        if row.request_id is not None:
            self._deletes.append(("", names.request_name(row.owner, row.request_id)))
        self.ended -= 1

    def is_going(self, job_id: str) -> bool:
        """Whether a job is purged, and that is not durable yet."""
        return job_id in self._purged or job_id in self._going

    def moved(self, job_id: str, first: int, size: int, score: int) -> None:
        """Delete a page of history that has been moved; `score` is that of its HISTORY entry."""
        self._deletes.append((job_id, names.page_name(first)))
        self.drop_entry(page_member(job_id, first, size), score)

    def drop_entry(self, member: str, score: int) -> None:
        """Delete a counted HISTORY entry. Its page, if there is one, stays."""
        self._removed.append((HISTORY, score, member))
        job_id, _, size = page_of(member)
        self._count_page(job_id, -1, -size)

    def note_moved(self, *, moved: bool) -> None:
        """Write, or delete, the mark that all pages of history have HISTORY entries."""
        if moved:
            self._puts.append(("", names.MOVED, b"1"))
        else:
            self._deletes.append(("", names.MOVED))

    async def index_history(self, store: RowStore, job_id: str) -> None:
        """Add HISTORY entries for the pages of a job, which were written while history was not moved.

        Their score is the time of the job's arrival, which is before that of any page that is written later.
        """
        pages = [name for name in await store.names(self.number, job_id) if name.startswith(names.PAGE)]
        head, *values = await store.read(self.number, [(job_id, name) for name in (names.HEAD, *pages)])
        for name, page in zip(pages, values, strict=True):
            if head is not None and page is not None:
                first = int(name.removeprefix(names.PAGE))
                member = page_member(job_id, first, len(page))
                self._new_entries.append((HISTORY, self.codec.number_of(head) // NUMBERS_A_MS, member))
                self._count_page(job_id, 1, len(page))

    def numbered(self, last: int) -> None:
        """The greatest arrival number that the store has for this shard."""
        self._last = last

    def count_entry(self, member: str) -> None:
        """Count a page of history that was found in the HISTORY index."""
        job_id, _, size = page_of(member)
        self._count_page(job_id, 1, size)

    def _count_page(self, job_id: str, by: int, size: int) -> None:
        self.unmoved += size
        self.unmoved_pages[job_id] += by
        if not self.unmoved_pages[job_id]:
            del self.unmoved_pages[job_id]

    def is_durable(self, row: Row) -> bool:
        """Whether the store has a row as it is in memory."""
        return row not in self._dirty and row not in self._in_flight

    def is_changing(self, row: JobRow | TaskRow | LateRow) -> bool:
        """Whether a row that is over is to be written, or leaves the tables with the batch in flight."""
        return row in self._dirty or row in self._flying

    def cut(self) -> Cut:
        """All changes since the last cut."""
        puts, self._puts = self._puts, []
        entries, self._new_entries = self._new_entries, []
        removed, self._removed = self._removed, []
        deletes, self._deletes = self._deletes, []
        last = self._last
        for row in self._dirty:
            if isinstance(row, TaskRow):
                last = max(last, row.n)
                puts.append((row.job_id, names.task_name(row.step, row.index), self.codec.task(row)))
                if row.state is OVER:
                    self._flying[row] = None
            elif isinstance(row, JobRow):
                last = max(last, row.n)
                self._cut_job(row, puts, deletes, entries, removed)
            elif isinstance(row, LateRow):
                puts.append((row.job_id, names.late_name(row.task, row.worker_id), self.codec.late(row)))
                self._flying[row] = None
        for job, (first, lines) in self._lines.items():
            page = self.codec.lines(job.id, first, lines)
            puts.append((job.id, names.page_name(first), page))
            if self._moving:
                entries.append((HISTORY, self._stamp, page_member(job.id, first, len(page))))
                self._count_page(job.id, 1, len(page))
        if last != self._last:
            self._last = last
            puts.append(("", names.NUMBERS, pack(last)))
        purged = self._going = self._purged
        self._purged = {}
        self._in_flight, self._dirty, self._lines = self._dirty, {}, {}
        return Cut(self._stamp, puts, deletes, list(purged), entries, removed)

    def _cut_job(
        self,
        row: JobRow,
        puts: list[StoredRow],
        deletes: list[RowKey],
        entries: list[Entry],
        removed: list[Entry],
    ) -> None:
        stored = row.stored
        if stored is None:
            stored = row.stored = Stored()
            entries.append((all_of(row.owner), row.n, row.id))
            if row.request_id is not None:
                puts.append(("", names.request_name(row.owner, row.request_id), row.id.encode()))
        puts.append((row.id, names.HEAD, self.codec.head(row)))
        if row.state is not stored.state:
            stored.state = row.state
            puts.append((row.id, names.STATE, self.codec.sealed(row.id, names.STATE, row.state)))
        if row.inbox is not stored.inbox:
            if row.inbox:
                puts.append((row.id, names.INBOX, self.codec.inbox(row)))
            elif stored.inbox:
                deletes.append((row.id, names.INBOX))
            stored.inbox = row.inbox
        self._cut_fan(row, stored, puts, deletes)
        place = _place(row)
        if place != stored.place:
            before = _entries(row, stored.place) if stored.place is not None else []
            after = _entries(row, place)
            removed += [entry for entry in before if entry not in after]
            entries += [entry for entry in after if entry not in before]
            if row.over and (stored.place is None or not stored.place[0]):
                self.ended += 1
            stored.place = place
        if row.over:
            self._flying[row] = None

    def _cut_fan(self, row: JobRow, stored: Stored, puts: list[StoredRow], deletes: list[RowKey]) -> None:
        fan = None if row.over else row.fan
        if stored.fan is not None and (fan is None or fan.step != stored.fan):
            deletes += [(row.id, names.chunk_name(place)) for place in range(1, stored.chunks + 1)]
            if fan is None:
                deletes.append((row.id, names.FAN))
            stored.fan, stored.chunks = None, 0
        if fan is None:
            return
        puts.append((row.id, names.FAN, self.codec.fan(fan)))
        left = len(fan.chunks)
        if stored.fan is None:
            puts += [
                (row.id, names.chunk_name(place), self.codec.chunk(fan, place, tasks))
                for place, tasks in zip(range(left, 0, -1), fan.chunks, strict=True)
            ]
        else:
            deletes += [(row.id, names.chunk_name(place)) for place in range(left + 1, stored.chunks + 1)]
        stored.fan, stored.chunks = fan.step, left

    def written(self) -> None:
        """A batch is durable: its rows that are over leave the tables, unless they changed again."""
        self._in_flight, self._going = {}, {}
        flying, self._flying = self._flying, {}
        for row in flying:
            if row in self._dirty:
                self._flying[row] = None
                continue
            self._tables.forget(row)
            self._finished.keep(row)
        self._finished.evict()

    def lost(self, why: str) -> None:
        """The shard is no longer this node's, or must be loaded again; `why` is for error messages."""
        self.lost_because = why
        self._lost(self)


def _size(row: JobRow | TaskRow | LateRow) -> int:
    """The size in bytes of the large parts of a row that is over. Such a task has no params."""
    if isinstance(row, JobRow):
        return len(row.state)
    return row.outcome.size if isinstance(row, TaskRow) and row.outcome is not None else 0


def _place(row: JobRow) -> tuple[object, ...]:
    """The values that decide a job's index entries, except that in `all_of`; `_entries` makes the entries.

    Returns:
        (False, end_due, events_due), or (True, status, finished_at, end_due, events_due) for a job that is over.
    """
    over = (row.over, str(row.status), row.finished_at) if row.over else (False,)
    return (*over, row.end_due, row.events_due)


def _entries(row: JobRow, place: Sequence[object]) -> list[Entry]:
    *over, end_due, events_due = place
    entries: list[Entry] = []
    if over[0]:
        _, status, finished_at = over
        assert isinstance(status, str)  # noqa: S101  as `_place` made it
        assert isinstance(finished_at, int)  # noqa: S101  likewise
        entries += [(over_of(row.owner, status), row.n, row.id), (ENDED, finished_at, row.id)]
    else:
        entries += [(LIVE, row.n, row.id), (live_of(row.owner), row.n, row.id)]
    for index, due in ((ENDS, end_due), (EVENTS, events_due)):
        if isinstance(due, int):
            entries.append((index, due, row.id))
    return entries


def as_stored(row: JobRow) -> JobRow:
    """A job's row that was just read, marked so that nothing of it is written."""
    stored = row.stored = Stored()
    stored.state, stored.inbox, stored.place = row.state, row.inbox, _place(row)
    if row.fan is not None:
        stored.fan, stored.chunks = row.fan.step, len(row.fan.chunks)
    return row


def is_task_id(text: str) -> bool:
    """Whether a text has the form of a task id."""
    parts = text.rsplit("-", 2)
    return len(parts) == 3 and parts[0] != "" and parts[1].isdecimal() and parts[2].isdecimal()


def task_place(task: str) -> tuple[int, int]:
    _, step, index = task.rsplit("-", 2)
    return int(step), int(index)
