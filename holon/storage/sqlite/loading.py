"""The SQLite file: rows fetched into the ledger's memory, all that live when the file is opened, others by id."""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from operator import attrgetter

from holon.domain.task import job_of, task_id
from holon.ports import Committed, Leased, NewTask
from holon.storage.ledger.leases import keeps_for, offer_of
from holon.storage.ledger.rows import LEASED, OFFERED, QUEUED, JobRow, LateRow, TaskRow
from holon.storage.ledger.shared import documents
from holon.storage.ledger.tables import Tables
from holon.storage.ledger.tasks import want_spawn
from holon.storage.sealing import Seal, SealBroken, marks
from holon.storage.sqlite import endings, fan_rows, job_rows, late_rows, needs, shared_rows, sheets, task_rows
from holon.storage.sqlite.endings import Endings
from holon.storage.sqlite.sheets import Sheets

log = logging.getLogger(__name__)

# A commit is repeated at once or never, so few of the replies that were lost have to be known.
MAX_REPLIES = 1_000

_NUMBERS = """
    SELECT max(
        (SELECT coalesce(max(n), 0) FROM jobs),
        (SELECT coalesce(max(n), 0) FROM tasks),
        (SELECT coalesce(max(n), 0) FROM sheets),
        (SELECT coalesce(max(n), 0) FROM offers),
        (SELECT coalesce(max(n), 0) FROM endings),
        (SELECT coalesce(max(version), 0) FROM documents),
        (SELECT number FROM clock)
    )
"""
_BY_REQUEST = "SELECT id FROM jobs WHERE owner = ? AND request_id = ?"


def load(db: sqlite3.Connection, tables: Tables, made: Sheets, offered: Sheets, seal: Seal, now: int) -> set[str]:
    """Fill empty tables with all that lives: as it was, but that nobody has a claim or a session.

    Jobs with something to do are ready, in the order of their arrival. Leases and offers run from now, and what a
    worker has is not timed out before its lease is over.

    Arguments:
        made: is told of the sheets of tasks.
        offered: is told of the sheets of offers.
    Returns:
        the jobs that are left out, since something of theirs cannot be opened; they stay in the file as they are.
    Raises:
        ConfigError: there are records of a key that is not here.
    """
    (last,) = db.execute(_NUMBERS).fetchone()
    tables.number_from(last)
    _load_shared(db, tables)
    marks.check(documents(tables, marks.KIND, now), seal)
    left_out: set[str] = set()
    jobs, names = _load_jobs(db, seal, left_out)
    _load_fan_outs(db, jobs, names, seal, left_out)
    tasks = _load_tasks(db, seal, left_out) + _load_sheets(db, made, seal, left_out)
    tasks.sort(key=attrgetter("n"))
    _load_offers(db, tasks, offered, some_are_unknown=bool(left_out))
    if left_out:
        log.error(
            "%d jobs cannot be opened and are left as they are: %s", len(left_out), ", ".join(sorted(left_out)[:9])
        )
    sound = [row for row in jobs.values() if row.id not in left_out]
    tables.jobs.update((row.id, row) for row in sound)
    for task in tasks:
        if task.job_id not in left_out:
            _take_in(tables, task, now)
    for row in sound:
        if row.due or row.inbox:
            tables.mark_ready(row)
        tables.arm(row)
        want_spawn(tables, row, now)
    tables.done()
    return left_out


def _load_jobs(db: sqlite3.Connection, seal: Seal, left_out: set[str]) -> tuple[dict[int, JobRow], dict[int, str]]:
    """The live jobs by their numbers, and the names of all of these."""
    jobs: dict[int, JobRow] = {}
    names: dict[int, str] = {}
    for columns in db.execute(job_rows.SELECT_LIVE):
        n, job_id = columns[:2]
        names[n] = job_id
        try:
            jobs[n] = job_rows.job_row(columns, seal)
        except SealBroken:
            left_out.add(job_id)
    return jobs, names


def _load_fan_outs(
    db: sqlite3.Connection, jobs: dict[int, JobRow], names: dict[int, str], seal: Seal, left_out: set[str]
) -> None:
    rest: dict[int, tuple[tuple[NewTask, ...], ...]] = defaultdict(tuple)
    # Earlier releases did not note it: then it counts from the last time that is known.
    dispatched = {n: row.updated_at for n, row in jobs.items()}
    for n, place, chunk in db.execute(fan_rows.SELECT_CHUNKS):
        try:
            tasks, noted = fan_rows.opened_chunk(names[n], place, chunk, seal)
        except SealBroken:
            left_out.add(names[n])
            continue
        rest[n] = (*rest[n], tasks)
        if noted is not None:
            dispatched[n] = noted
    for columns in db.execute(fan_rows.SELECT_LIVE):
        row = jobs.get(columns[0])
        if row is not None:
            row.fan = fan_rows.fan_row(columns, row.id, rest[row.n], dispatched[row.n])


def _load_tasks(db: sqlite3.Connection, seal: Seal, left_out: set[str]) -> list[TaskRow]:
    tasks: list[TaskRow] = []
    for columns in db.execute(task_rows.SELECT_LIVE):
        try:
            tasks.append(task_rows.task_row(columns, seal))
        except SealBroken:
            left_out.add(columns[-1])
    return tasks


def _load_sheets(db: sqlite3.Connection, made: Sheets, seal: Seal, left_out: set[str]) -> list[TaskRow]:
    """The tasks that are nowhere but on a sheet."""
    known = {key: needs.need_of(need) for key, need in db.execute(needs.SELECT)}
    tasks: list[TaskRow] = []
    ended: dict[tuple[str, int], set[int]] = {}
    for columns in db.execute(sheets.SELECT_TASKS):
        try:
            rows = sheets.made_tasks(columns, known, seal)
            step = rows[0].job_id, rows[0].step
            if step not in ended:
                of_step = db.execute(endings.SELECT_OF_STEP, step)
                ended[step] = {n for ending in of_step for n in endings.numbers(ending, step[0], seal)}
        except SealBroken:
            left_out.add(columns[-1])
            continue
        # What is written of a task alone is newer, and how it ended.
        written = {n for (n,) in db.execute(sheets.SELECT_WRITTEN, (rows[0].n, rows[-1].n))} | ended[step]
        left = [row for row in rows if row.n not in written]
        made.add(columns[0], [row.n for row in left])
        tasks += left
    return tasks


def _load_offers(db: sqlite3.Connection, tasks: list[TaskRow], offered: Sheets, *, some_are_unknown: bool) -> None:
    by_number = {task.n: task for task in tasks}
    for sheet, record in db.execute(sheets.SELECT_OFFERS):
        by_it, unknown = sheets.offer_again(record, by_number)
        # Those of jobs that are left out stay in the file as they are.
        offered.add(sheet, by_it + unknown if some_are_unknown else by_it)


def _load_shared(db: sqlite3.Connection, tables: Tables) -> None:
    for columns in db.execute(shared_rows.SELECT_DOCUMENTS):
        document = shared_rows.document_row(columns)
        tables.documents.setdefault(document.kind, {})[document.key] = document
    for columns in db.execute(shared_rows.SELECT_QUOTAS):
        quota = shared_rows.quota_row(columns)
        tables.quotas[quota.key, quota.period] = quota


def _take_in(tables: Tables, task: TaskRow, now: int) -> None:
    tables.tasks[task.id] = task
    if task.state is QUEUED:
        tables.backlog.enqueue(task)
    elif task.state in (OFFERED, LEASED):
        tables.worker(task.worker_id).held[task.lease_id] = task.id
        if task.state is LEASED:
            task.lease_until = now + keeps_for(tables, task)
            # What was done in time could not be told while there was nobody to tell it to.
            if task.execution_due is not None:
                task.execution_due = max(task.execution_due, task.lease_until)
        else:
            task.lease_until = now + tables.settings.offer
            _repeat_offer(tables, task)
    tables.arm(task)


def _repeat_offer(tables: Tables, task: TaskRow) -> None:
    """A commit that is repeated offers again what it offered; that is told from the tasks, and not written."""
    row = tables.jobs[task.job_id]
    offered = task.attempts[-1].offered
    if offered == row.updated_at and task.step == row.open_step:
        before = row.reply.leased.offers if row.reply else ()
        row.reply = Committed(leased=Leased((*before, offer_of(tables, task, offered))))


class Visitors:
    """Rows that are not in memory, fetched by id for one group of operations; the same id gives the same row.

    What cannot be opened is not there, for the operations of the ledger.
    """

    def __init__(self, db: sqlite3.Connection, seal: Seal) -> None:
        self._db = db
        self._seal = seal
        self._left_out: set[str] = set()
        self._jobs: dict[str, JobRow] = {}
        self._tasks: dict[str, TaskRow] = {}
        self._lates: dict[tuple[int, str], LateRow] = {}
        self._endings = Endings(db, seal)
        self._replies: dict[str, Committed] = {}

    def leave_out(self, jobs: set[str]) -> None:
        """Something of these jobs, which live, cannot be opened: they and their tasks are not to be touched."""
        self._left_out = jobs

    def job(self, job_id: str) -> JobRow | None:
        """A job's row."""
        row = self._jobs.get(job_id)
        if row is None and job_id not in self._left_out:
            columns = self._db.execute(job_rows.SELECT_ONE, (job_id,)).fetchone()
            if columns is None:
                return None
            try:
                row = self._jobs[job_id] = job_rows.job_row(columns, self._seal)
            except SealBroken:
                return None
            row.reply = self._replies.get(job_id)
        return row

    def task(self, wanted: str) -> TaskRow | None:
        """A task's row."""
        row = self._tasks.get(wanted)
        if row is None:
            at = _place_of(wanted)
            if at is None or at[0] in self._left_out:
                return None
            columns = self._db.execute(task_rows.SELECT_ONE, at).fetchone()
            try:
                row = task_rows.task_row(columns, self._seal) if columns else self._endings.task(*at)
            except SealBroken:
                return None
            if row is not None:
                self._tasks[wanted] = row
        return row

    def late(self, task: int, worker_id: str) -> LateRow | None:
        """What is known of a worker's late results for the task of this number."""
        row = self._lates.get((task, worker_id)) or late_rows.fetched(self._db, task, worker_id)
        if row is not None:
            self._lates[task, worker_id] = row
        return row

    def request(self, owner: str, request_id: str) -> str | None:
        """The job that a request id of an owner made.

        Raises:
            SealBroken: it cannot be opened, and another one of that request must not be made.
        """
        found = self._db.execute(_BY_REQUEST, (owner, request_id)).fetchone()
        if found is None:
            return None
        if self.job(found[0]) is None:
            raise SealBroken(f"job {found[0]}, which was made for this request, cannot be opened: see the node's log")
        return str(found[0])

    def remember(self, row: JobRow) -> None:
        """Keep what a job's last commit offered, for its repeat, though the job leaves memory."""
        if row.reply is not None and row.reply.leased.offers:
            self._replies[row.id] = row.reply
            if len(self._replies) > MAX_REPLIES:
                del self._replies[next(iter(self._replies))]

    def leave(self) -> None:
        """The group is over."""
        self._jobs.clear()
        self._tasks.clear()
        self._lates.clear()
        self._endings.forget()


def _place_of(wanted: str) -> tuple[str, int, int] | None:
    """The job, step and place that a task's id tells; None when it is none of ours."""
    job_id = job_of(wanted)
    step, _, place = wanted.removeprefix(f"{job_id}-").partition("-")
    if not (step.isdecimal() and place.isdecimal() and len(step) < 19 and len(place) < 19):
        return None
    at = job_id, int(step), int(place)
    return at if task_id(*at) == wanted else None
