"""The ledger: its tables and ordered indexes, and the transaction that can take a group of changes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

from holon.domain.events import HistoryEvent
from holon.ports import Hint, StoreSettings
from holon.randomness import random_id
from holon.storage.ledger.backlog import Backlog
from holon.storage.ledger.row import Row
from holon.storage.ledger.rows import JobRow, LateRow, TaskRow, WorkerRow
from holon.storage.ledger.shared_rows import DocumentRow, QuotaRow

AnyRow = TypeVar("AnyRow", bound=Row)
Key = TypeVar("Key")

_NONE: frozenset[str] = frozenset()
# Timers are rid of their stale entries when there are so many, beside twice those that may count.
MOST_STALE = 1_000


class Tables:
    """All rows that live in memory, the indexes over them, and the undo log of the running transaction.

    Indexes are cleaned lazily: an entry counts only while its row agrees with it, so a row may change its mind without
    searching for its entries. Every row that is not over is in memory; `load_job` and the like fetch the others.

    Attributes:
        ready, suspects: the queues of jobs that wait for a claim, and of those of them that may run only alone.
        changed: every row that this transaction made or changed, in that order, and how it was before (None: it was
            not).
        ends: the jobs that end in this transaction, and whose end is to be told.
        happened: the jobs that tell in it of events that are to be told: with the number of their newest line before,
            and of the last that tells of one.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self.jobs: dict[str, JobRow] = {}
        self.tasks: dict[str, TaskRow] = {}
        self.workers: dict[str, WorkerRow] = {}
        self.requests: dict[tuple[str, str], str] = {}
        self.documents: dict[str, dict[str, DocumentRow]] = {}
        self.quotas: dict[tuple[str, str], QuotaRow] = {}
        self.lates: dict[tuple[int, str], LateRow] = {}
        self.claimed: set[str] = set()
        self.alone: str | None = None
        self.load_job: Callable[[str], JobRow | None] = lambda _: None
        self.load_task: Callable[[str], TaskRow | None] = lambda _: None
        self.load_request: Callable[[str, str], str | None] = lambda _owner, _request: None
        self.load_late: Callable[[int, str], LateRow | None] = lambda _task, _worker: None
        self.ready: deque[tuple[str, int]] = deque()
        self.suspects: deque[tuple[str, int]] = deque()
        self._timers: list[tuple[int, int, bool, str]] = []
        self._number = 0
        self._undo: list[Callable[[], object]] = []
        self.changed: dict[Row, Any] = {}
        # Of each lease that began or ceased to count: where it is noted, and what was there.
        self._holds: list[tuple[dict[str, str], str, str | None]] = []
        self.notices: list[tuple[JobRow, int, tuple[HistoryEvent, ...]]] = []
        self.ends: list[JobRow] = []
        self.happened: list[tuple[JobRow, int, int]] = []
        self._keys: set[str] = set()
        self._spawns: set[tuple[str, int]] = set()
        self._kinds: set[str] = set()
        self._stops = False
        self.backlog = Backlog(self.tasks, self.hint_key)

    # The transaction -------------------------------------------------------------------------------------------

    def owner(self, task: TaskRow) -> JobRow:
        """The job of a task that is there, which goes with it."""
        row = self.job(task.job_id)
        assert row is not None  # noqa: S101  tasks are purged with their jobs
        return row

    def edit(self, row: AnyRow) -> AnyRow:
        """The row, remembered as it is before its first change in this transaction."""
        if row not in self.changed:
            self.changed[row] = row.snapshot()
        return row

    def done(self) -> Hint | None:
        """The transaction is durable: forget how to take it back; answers with what others may want to know."""
        jobs = frozenset([row.job_id for row in self.changed])
        told, ends = bool(self.notices) and self.settings.history_backlog is not None, bool(self.ends)
        happened = bool(self.happened)
        ready = self._claimable()
        self._undo.clear()
        self.changed.clear()
        self._holds.clear()
        self.backlog.done()
        self.notices.clear()
        self.ends.clear()
        self.happened.clear()
        keys, spawns, kinds, stops = _NONE, frozenset(self._spawns), frozenset(self._kinds), self._stops
        if self._keys:
            keys = frozenset([key for key in self._keys if self.backlog.waiting.get(key)])
        self._forget_hints()
        due = self.next_due()
        if len(self._timers) > MOST_STALE + 2 * (len(self.jobs) + len(self.tasks)):
            self._timers = [entry for entry in self._timers if self._armed(entry)]
            heapify(self._timers)
        if not (keys or spawns or kinds or stops or jobs or told or ready or due):
            return None
        return Hint(ready, stops, due, keys, spawns, jobs, told, kinds, ends, events=happened)

    def take_back(self) -> None:
        """The transaction failed: every row and index is as it was before."""
        for undo in reversed(self._undo):
            undo()
        for held, lease_id, task_id in reversed(self._holds):
            if task_id is None:
                held.pop(lease_id, None)
            else:
                held[lease_id] = task_id
        for row, snapshot in self.changed.items():
            if snapshot is not None:
                row.restore(snapshot)
            elif isinstance(row, JobRow | TaskRow):
                self.forget(row)
        self.backlog.take_back()
        self._forget_hints()
        self.done()

    def _forget_hints(self) -> None:
        for hints in (self._keys, self._spawns, self._kinds):
            if hints:
                hints.clear()
        self._stops = False

    def number(self) -> int:
        """The next number of arrival; numbers of failed transactions are not used again."""
        self._number += 1
        return self._number

    @property
    def last_number(self) -> int:
        """The last that was given out."""
        return self._number

    def number_from(self, last: int) -> None:
        """Go on after the last number that an earlier process used."""
        self._number = max(self._number, last)

    @staticmethod
    def token() -> str:
        """A new claim or lease id: 128 random bits."""
        return random_id()

    # Rows ------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobRow | None:
        """A job's row."""
        return self.jobs.get(job_id) or self.load_job(job_id)

    def task(self, task_id: str) -> TaskRow | None:
        """A task's row."""
        return self.tasks.get(task_id) or self.load_task(task_id)

    def request(self, owner: str, request_id: str) -> str | None:
        """The job that a request id of an owner made."""
        return self.requests.get((owner, request_id)) or self.load_request(owner, request_id)

    def add_job(self, row: JobRow) -> None:
        """Take in a new job."""
        self.jobs[row.id] = row
        self.changed[row] = None
        if row.request_id is not None:
            self.requests[row.owner, row.request_id] = row.id

    def add_task(self, row: TaskRow) -> None:
        """Take in a new task."""
        self.tasks[row.id] = row
        self.changed[row] = None

    def forget(self, row: Row) -> None:
        """Leave a row that is over, and durable, to the loading; or one that is not to be after all."""
        if isinstance(row, TaskRow):
            self.tasks.pop(row.id, None)
        elif isinstance(row, JobRow):
            self.jobs.pop(row.id, None)
            if row.request_id is not None:
                self.requests.pop((row.owner, row.request_id), None)
        elif isinstance(row, LateRow):
            self.lates.pop((row.task, row.worker_id), None)

    def worker(self, worker_id: str) -> WorkerRow:
        """A worker's row, made when it is not known yet."""
        row = self.workers.get(worker_id)
        if row is None:
            row = self.workers[worker_id] = WorkerRow(worker_id)
            self._undo.append(lambda: self.workers.pop(worker_id, None))
        return row

    def drop_worker(self, row: WorkerRow) -> None:
        """Forget a worker that has no session, and whose leases have all ended."""
        del self.workers[row.id]
        self._undo.append(lambda: self.workers.__setitem__(row.id, row))

    def put(self, where: dict[Key, AnyRow], key: Key, row: AnyRow) -> None:
        """Take in a new row of another kind, where it is kept."""
        where[key] = row
        self.changed[row] = None
        self._undo.append(lambda: where.pop(key, None))

    def drop(self, where: dict[Key, AnyRow], key: Key) -> AnyRow:
        """Forget an edited row of another kind."""
        row = where.pop(key)
        self._undo.append(lambda: where.__setitem__(key, row))
        return self.edit(row)

    def late(self, owner: JobRow, task: TaskRow, worker_id: str) -> LateRow:
        """What is known of a worker's late results for a task, made when nothing is yet."""
        key = task.n, worker_id
        row = self.lates.get(key) or self.load_late(*key)
        if row is None:
            row = LateRow(owner.id, owner.n, *key)
            self.put(self.lates, key, row)
        return row

    def tell(self, row: JobRow, events: Iterable[HistoryEvent]) -> None:
        """Write lines of a job's history with this transaction."""
        lines = tuple(events)
        if lines:
            self.notices.append((row, row.history_seq + 1, lines))
            row.history_seq += len(lines)

    # Ready jobs ------------------------------------------------------------------------------------------------

    def mark_ready(self, row: JobRow) -> None:
        """Queue an edited job for a claim, once, unless somebody has it."""
        if row.ready_seq or row.claim_id or row.over:
            return
        row.ready_seq = self.number()
        (self.suspects if row.deliveries else self.ready).append((row.id, row.ready_seq))

    def next_ready(self, *, suspect: bool) -> JobRow | None:
        """Take the job that has been ready longest out of its queue."""
        queue = self.suspects if suspect else self.ready
        while queue:
            entry = queue.popleft()
            self._undo.append(lambda entry=entry: queue.appendleft(entry))  # type: ignore[misc]
            row = self.jobs.get(entry[0])
            if row is not None and row.ready_seq == entry[1]:
                return row
        return None

    def _claimable(self) -> bool:
        """Whether a claim would take a job; else who is told that one is ready would ask again and again."""
        if self.alone is not None:
            return False
        return not self.claimed if self.suspects and self.has_suspects() else bool(self.ready)

    def has_suspects(self) -> bool:
        """Whether a job waits that may run only alone."""
        while self.suspects:
            job_id, ready_seq = self.suspects[0]
            row = self.jobs.get(job_id)
            if row is not None and row.ready_seq == ready_seq:
                return True
            entry = self.suspects.popleft()
            self._undo.append(lambda entry=entry: self.suspects.appendleft(entry))  # type: ignore[misc]
        return False

    def hold(self, row: JobRow) -> None:
        """This node has claimed a job; a suspect keeps it from claiming another."""
        self._set_claimed(row.id, True, row.id if row.deliveries > 1 else self.alone)

    def let_go(self, row: JobRow) -> None:
        """This node's claim on a job has ended."""
        self._set_claimed(row.id, False, None if self.alone == row.id else self.alone)

    def _set_claimed(self, job_id: str, claimed: bool, alone: str | None) -> None:
        before = (job_id in self.claimed, self.alone)
        (self.claimed.add if claimed else self.claimed.discard)(job_id)
        self.alone = alone
        if before != (claimed, alone):
            self._undo.append(lambda: self._set_claimed(job_id, *before))

    def take_hold(self, worker: WorkerRow, lease_id: str, task_id: str) -> None:
        """A lease counts against its worker's credits from now on."""
        held = worker.held
        self._holds.append((held, lease_id, held.get(lease_id)))
        held[lease_id] = task_id

    def lose_hold(self, worker: WorkerRow, lease_id: str) -> None:
        """A lease no longer counts against its worker's credits."""
        held = worker.held
        self._holds.append((held, lease_id, held.pop(lease_id)))

    # Timers and wake-ups ---------------------------------------------------------------------------------------

    def arm(self, row: JobRow | TaskRow) -> None:
        """See to it that an edited row is looked at when its next time has come, or before."""
        due = row.next_time()
        if due is not None and (row.timer_at is None or due < row.timer_at):
            self._set_timer(row, due)

    def _set_timer(self, row: JobRow | TaskRow, due: int) -> None:
        row.timer_at = due
        heappush(self._timers, (due, row.n, isinstance(row, JobRow), row.id))

    def next_due(self) -> int | None:
        """When the earliest timer is due. A timer that its row no longer wants is moved, or dropped, on the way."""
        while self._timers:
            entry = self._timers[0]
            row = self._armed(entry)
            if row is not None:
                due = row.next_time()
                if due is not None and due <= entry[0]:
                    return entry[0]
                self._undo.append(lambda row=row, before=entry[0]: setattr(row, "timer_at", before))  # type: ignore[misc]
                row.timer_at = None
                if due is not None:
                    self._set_timer(row, due)
            heappop(self._timers)
            self._undo.append(lambda entry=entry: heappush(self._timers, entry))  # type: ignore[misc]
        return None

    def _armed(self, entry: tuple[int, int, bool, str]) -> JobRow | TaskRow | None:
        """The row that an entry of the timers still counts for."""
        row = self.jobs.get(entry[3]) if entry[2] else self.tasks.get(entry[3])
        return row if row is not None and row.timer_at == entry[0] else None

    def pop_due(self, now: int) -> JobRow | TaskRow | None:
        """Take the next row whose timer is due, edited and disarmed."""
        due = self.next_due()
        if due is None or due > now:
            return None
        entry = heappop(self._timers)
        self._undo.append(lambda: heappush(self._timers, entry))
        row = self.jobs[entry[3]] if entry[2] else self.tasks[entry[3]]
        self.edit(row).timer_at = None
        return row

    def hint_key(self, key: str) -> None:
        """A task of this match key may be leased."""
        self._keys.add(key)

    def hint_stop(self) -> None:
        """Somebody is to be told to stop."""
        self._stops = True

    def hint_spawn(self, job_id: str, step: int) -> None:
        """The next chunk of a fan-out is wanted."""
        self._spawns.add((job_id, step))

    def hint_documents(self, kind: str) -> None:
        """A document of this kind changed."""
        self._kinds.add(kind)
