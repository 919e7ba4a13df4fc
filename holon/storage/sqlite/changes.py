"""What one transaction writes: the columns of every row that changed, by statement, in the order of the statements."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Container
from typing import Any, Final

from holon.domain.events import HistoryEvent
from holon.domain.matching import Need
from holon.storage.ledger.row import Row
from holon.storage.ledger.rows import OFFERED, OVER, FanOut, JobRow, LateRow, TaskRow
from holon.storage.ledger.shared_rows import DocumentRow, QuotaRow
from holon.storage.ledger.tables import Tables
from holon.storage.records import encode_need, pack, to_lines
from holon.storage.sealing import Seal
from holon.storage.sqlite import endings, fan_rows, job_rows, late_rows, needs, purging, shared_rows, sheets, task_rows
from holon.storage.sqlite.known import Lines
from holon.storage.sqlite.needs import Needs
from holon.storage.sqlite.purging import Purging
from holon.storage.sqlite.sheets import Sheets
from holon.storage.sqlite.untold import OF_UNTOLD, UntoldEnds, UntoldEvents

PAGE = 4096

INSERT_HISTORY = "INSERT INTO history (job, last, events) VALUES (?, ?, ?)"
SETTLE = "DELETE FROM history WHERE job = ? AND last = ?"
WRITTEN_AT = "UPDATE clock SET written = ?, number = ?"
# Run where jobs go, and not only a part of one.
GONE = purging.WHOLE[-1]

_ORDER: Final = (
    job_rows.INSERT,
    job_rows.UPDATE,
    job_rows.UPDATE_WITH_STATE,
    job_rows.REPLACE_STATE,
    needs.INSERT,
    task_rows.INSERT,
    task_rows.UPDATE,
    task_rows.END,
    endings.INSERT,
    sheets.INSERT_TASKS,
    sheets.INSERT_OFFERS,
    sheets.DELETE_TASKS,
    sheets.DELETE_OFFERS,
    fan_rows.DELETE,
    fan_rows.REPLACE,
    fan_rows.DELETE_CHUNKS,
    fan_rows.INSERT_CHUNK,
    late_rows.REPLACE,
    INSERT_HISTORY,
    SETTLE,
    *OF_UNTOLD,
    purging.HIDDEN,
    *purging.PARTS,
    *purging.WHOLE,
    shared_rows.DELETE_DOCUMENT,
    shared_rows.REPLACE_DOCUMENT,
    shared_rows.DELETE_QUOTA,
    shared_rows.REPLACE_QUOTA,
)
_PLACE: Final = {statement: place for place, statement in enumerate(_ORDER)}


class Changes:
    """Gathered from the ledger's tables at the end of a group of operations.

    Arguments:
        tables: the ledger, whose transaction is not done yet.
        made: the sheets of tasks.
        offered: the sheets of offers.
        known: the needs that are in the file already.
        seal: what rows are sealed with.
        purged: what is deleted of jobs that are over.
        settled: what history to delete, as (job, last number).
        ends: what is settled of ends that were to be told.
        happened: the same of events.
        told: the jobs whose lines somebody wants.
    """

    def __init__(
        self,
        tables: Tables,
        made: Sheets,
        offered: Sheets,
        known: Needs,
        seal: Seal,
        purged: Purging,
        settled: Collection[tuple[int, int]],
        ends: UntoldEnds,
        happened: UntoldEvents,
        told: Container[str],
    ) -> None:
        self._seal = seal
        self._made = made
        self._offered = offered
        self._known = known
        self._untold = (ends, happened)
        self.over: list[Row] = []
        # By statement, of those that have any: most of a transaction have a few.
        self._rows: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._jobs = tables.jobs
        self._number = tables.last_number
        self._needs: dict[str, tuple[Need, int]] = {}
        self._large = 0
        # The oldest job's number, where needs are deleted for that.
        self._oldest: int | None = None
        # When a job that is written was changed last.
        self._newest = 0
        # New branches, by their job; those of sheets that are over now, by their step; tasks that were only offered;
        # and the numbers of those that are no sheet's any more.
        self._new: defaultdict[str, list[TaskRow]] = defaultdict(list)
        self._ended: defaultdict[tuple[str, int], list[TaskRow]] = defaultdict(list)
        self._offers: list[TaskRow] = []
        self._written: list[int] = []
        self._sheets: list[tuple[Sheets, int, list[int]]] = []
        fans: list[tuple[FanOut, FanOut | None]] = []
        for row, before in tables.changed.items():
            if isinstance(row, TaskRow):
                self._task(row, before)
            elif isinstance(row, JobRow):
                self._job(row, before)
            elif isinstance(row, FanOut):
                fans.append((row, before))
            elif isinstance(row, LateRow):
                self._rows[late_rows.REPLACE].append(late_rows.replaced(row))
                self.over.append(row)
            elif isinstance(row, DocumentRow):
                self._document(row)
            elif isinstance(row, QuotaRow):
                self._quota(row)
        for fan, before in fans:
            self._fan_out(fan, before)
        # Whether there are any: of single tasks there are none, and nothing to look for then.
        self._on_sheets = bool(self._new or self._ended or self._offers or made or offered)
        if self._on_sheets:
            self._sheets_of_tasks(tables)
        if self._needs:
            self._rows[needs.INSERT] = [(key, encode_need(need), job) for key, (need, job) in self._needs.items()]
        notices: dict[JobRow, list[HistoryEvent]] = {}
        for job, _, lines in tables.notices:
            notices.setdefault(job, []).extend(lines)
        # The lines of jobs that somebody wants, by the jobs' ids.
        self.lines: dict[str, Lines] = {}
        for job, events in notices.items():
            last, written = job.history_seq, to_lines(events)
            text = pack(written)
            if job.id in told:
                self.lines[job.id] = last - len(written) + 1, written, len(text)
            self._rows[INSERT_HISTORY].append((job.n, last, seal.seal("history", job.id, last, text)))
        if settled:
            self._rows[SETTLE] = list(settled)
        if tables.ends or ends:
            self._rows.update(ends.statements(tables))
        if tables.happened or happened:
            self._rows.update(happened.statements(tables))
        if purged:
            purged.leave_to_be_moved([job.n for job in notices])
            self._rows.update(purged.statements())
            self._large += PAGE * purged.rows

    def __bool__(self) -> bool:
        return bool(self._rows)

    def tells(self, now: int) -> bool:
        """Whether what is written says itself that it was not before this time, for as long as the file is there.

        And of each number that was used for what clients or nodes know by it.
        """
        rows = self._rows
        return self._newest >= now and GONE not in rows and shared_rows.DELETE_DOCUMENT not in rows

    def write(self, db: sqlite3.Connection, now: int | None) -> None:
        """Write everything in one transaction, and commit it; what is raised leaves the transaction to be ended.

        Arguments:
            now: noted as the time of the last write, in epoch milliseconds, with the last number: a page more. None:
                there is no need.
        """
        db.execute("BEGIN IMMEDIATE")
        for statement in sorted(self._rows, key=_PLACE.__getitem__):
            db.executemany(statement, self._rows[statement])
        if GONE in self._rows:
            self._purge_needs(db)
        if now is not None:
            db.execute(WRITTEN_AT, (now, self._number))
        db.execute("COMMIT")

    def _purge_needs(self, db: sqlite3.Connection) -> None:
        (oldest,) = db.execute(needs.OLDEST).fetchone()
        if self._known.may_go(oldest):
            db.execute(needs.PURGE, (oldest,))
            self._oldest = oldest

    def written(self) -> None:
        """All of it is in the file: note which tasks are on which sheet now, and which needs are there."""
        if self._on_sheets:
            self._made.remove(self._written)
            self._offered.remove(self._written)
        for kind, sheet, tasks in self._sheets:
            kind.add(sheet, tasks)
        for untold in self._untold:
            if untold:
                untold.written()
        if self._oldest is not None:
            # What nobody had a task for went with the jobs: all of it, where none was left.
            self._known.purged(self._oldest)
        for key, (_, job) in self._needs.items():
            self._known.add(key, job)

    def told(self) -> int:
        """How many bytes of history this writes."""
        return sum([len(events) for _, _, events in self._rows.get(INSERT_HISTORY, ())])

    def volume(self) -> int:
        """About how many bytes this adds to the write-ahead log: a page for each row, and more for large ones."""
        return self._large + PAGE * sum(map(len, self._rows.values()))

    def _job(self, row: JobRow, before: JobRow | None) -> None:
        rows, told = self._rows, row.updated_at
        if before is None:
            rows[job_rows.INSERT].append(job_rows.inserted(row, self._seal))
        elif row.state is not before.state:
            rows[job_rows.UPDATE_WITH_STATE].append(job_rows.updated_with_state(row, self._seal))
        elif job_rows.changed(row, before):
            rows[job_rows.UPDATE].append(job_rows.updated(row, self._seal))
        else:
            told = 0
        self._newest = max(self._newest, told)
        if job_rows.apart(row) and (before is None or row.state is not before.state):
            rows[job_rows.REPLACE_STATE].append(job_rows.replaced_state(row, self._seal))
            self._large += len(row.state)
        if row.over:
            self.over.append(row)
        fan_before = None if before is None else before.fan
        if fan_before is not None and (row.over or row.fan is not fan_before):
            rows[fan_rows.DELETE].append((row.n,))
            rows[fan_rows.DELETE_CHUNKS].append((row.n, 0))
        if row.fan is not None and row.fan is not fan_before and not row.over:
            rows[fan_rows.INSERT_CHUNK] += fan_rows.chunks(row.fan, row.n, self._seal)

    def _task(self, row: TaskRow, before: TaskRow | None) -> None:
        if before is None:
            if row.branch and sheets.as_made(row):
                self._new[row.job_id].append(row)
            else:
                self._task_row(row, new=True)
                self._need(row)
        elif task_rows.changed(row, before):
            if sheets.only_offered(row, before):
                self._offers.append(row)
            elif row.n not in self._made:
                self._task_row(row, new=False)
            elif row.state is OVER:
                self._ended[row.job_id, row.step].append(row)
            else:
                self._task_row(row, new=True)
            if row.key != before.key:
                self._need(row)
        if row.state is OVER:
            self.over.append(row)

    def _need(self, row: TaskRow) -> None:
        job = self._jobs[row.job_id].n
        if self._known.lacks(row.key, job):
            _, newest = self._needs.get(row.key, (row.need, job))
            self._needs[row.key] = row.need, max(job, newest)

    def _task_row(self, row: TaskRow, *, new: bool) -> None:
        """Write a row of a task's own; it may be the first."""
        self._written.append(row.n)
        self._large += len(row.params)
        if row.outcome is not None:
            self._large += len(row.outcome.data)
        if new:
            self._rows[task_rows.INSERT].append(task_rows.inserted(row, self._jobs[row.job_id].n, self._seal))
        elif row.state is OVER:
            self._rows[task_rows.END].append(task_rows.ended(row, self._seal))
        else:
            self._rows[task_rows.UPDATE].append(task_rows.updated(row))

    def _sheets_of_tasks(self, tables: Tables) -> None:
        offered = sum(row.state is OFFERED for rows in self._new.values() for row in rows)
        few = len(self._offers) + offered < sheets.FEWEST
        for job_id, rows in self._new.items():
            for row in {row.key: row for row in rows}.values():
                self._need(row)
            alone = [row for row in rows if few and row.state is OFFERED]
            together = [row for row in rows if not few or row.state is not OFFERED]
            if len(together) < sheets.FEWEST:
                alone, together = rows, []
            for row in alone:
                self._task_row(row, new=True)
            if together:
                self._offers += [row for row in together if row.state is OFFERED]
                sheet = sheets.inserted_tasks(together, self._jobs[job_id].n, self._seal)
                self._rows[sheets.INSERT_TASKS].append(sheet)
                self._large += len(sheet[-1])
                self._sheets.append((self._made, together[-1].n, [row.n for row in together]))
        self._endings(tables)
        if few:
            for row in self._offers:
                self._task_row(row, new=row.n in self._made)
        elif self._offers:
            n = tables.number()
            self._rows[sheets.INSERT_OFFERS].append(sheets.inserted_offers(n, self._offers))
            self._sheets.append((self._offered, n, [row.n for row in self._offers]))
        for statement, kind in ((sheets.DELETE_TASKS, self._made), (sheets.DELETE_OFFERS, self._offered)):
            if emptied := kind.emptied(self._written):
                self._rows[statement] = [(sheet,) for sheet in emptied]

    def _endings(self, tables: Tables) -> None:
        for (job_id, _), rows in self._ended.items():
            if len(rows) < sheets.FEWEST:
                for row in rows:
                    self._task_row(row, new=True)
                continue
            for some in endings.together(rows):
                ending = endings.inserted(tables.number(), self._jobs[job_id].n, some, self._seal)
                self._rows[endings.INSERT].append(ending)
                self._large += len(ending[-1]) + len(ending[-2])
            self._written += [row.n for row in rows]

    def _fan_out(self, fan: FanOut, before: FanOut | None) -> None:
        job = self._jobs[fan.job_id]
        if job.over or job.fan is not fan:
            return
        self._rows[fan_rows.REPLACE].append(fan_rows.replaced(fan, job.n))
        if before is not None and fan.chunks is not before.chunks:
            self._rows[fan_rows.DELETE_CHUNKS].append((job.n, len(fan.chunks)))

    # One that was deleted and is there again has two rows: what is deleted comes first.

    def _document(self, row: DocumentRow) -> None:
        if row.value is None:
            self._rows[shared_rows.DELETE_DOCUMENT].append((row.kind, row.key))
        else:
            self._rows[shared_rows.REPLACE_DOCUMENT].append(shared_rows.replaced_document(row))
            self._large += len(row.value)

    def _quota(self, row: QuotaRow) -> None:
        if row.used is None:
            self._rows[shared_rows.DELETE_QUOTA].append((row.key, row.period))
        else:
            self._rows[shared_rows.REPLACE_QUOTA].append(shared_rows.replaced_quota(row))
