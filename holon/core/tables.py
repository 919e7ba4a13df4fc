"""The rows of all shards of a node in memory, the indexes over them, and the changes of the current operation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Container, Iterable
from heapq import heapify, heappop, heappush
from typing import TypeVar

from holon.core.backlog import Backlog
from holon.core.row import Row, shard_of
from holon.core.rows import QUEUED, JobRow, LateRow, TaskRow, WorkerRow
from holon.domain.events import HistoryEvent
from holon.ports import Hint, StoreSettings
from holon.randomness import random_id

AnyRow = TypeVar("AnyRow", bound=Row)
Key = TypeVar("Key")

_NONE: frozenset[str] = frozenset()
# Arrival numbers go on from the time: so many of them a millisecond, so that numbers of different nodes are in order of
# time, and fit into 53 bits until the year 2100.
NUMBERS_A_MS = 2_048
# Stale timers are dropped when there are more than this many timers plus twice the number of jobs and tasks.
MOST_STALE = 1_000


class Tables:
    """All rows that live in memory, of every shard that this node owns, and the indexes over them.

    Indexes are cleaned lazily: an entry counts only while its row agrees with it, so a row may change without a search
    for its entries. Rows that are over leave the tables once they are durable. `load_job`, `load_task`, `load_request`
    and `load_late` return those that the shard fetched. There is no undo: an operation checks first and changes after.

    Arguments:
        settings: durations and limits for the rules.
        shards: how many shards the store has.

    Attributes:
        ready: the queue of jobs that wait for a claim.
        suspects: the queue of jobs that may run only alone; see `holon.core.jobs.claim`.
        claimed: the ids of claimed jobs.
        alone: the id of the claimed suspect; None: there is none.
        changed: every row that the current operation made or changed, in order.
        notices: lines of history of the operation: (job, number of the first line, lines).
        ends: jobs that ended in the operation and whose webhook must be notified.
        happened: jobs with new events for their webhook: (job, number of the newest line before, of the last event).
    """

    def __init__(self, settings: StoreSettings, shards: int = 1) -> None:
        self.settings = settings
        self.shards = shards
        # The time of the current operation, epoch milliseconds.
        self.now = 0
        self.jobs: dict[str, JobRow] = {}
        self.tasks: dict[str, TaskRow] = {}
        self.workers: dict[str, WorkerRow] = {}
        self.requests: dict[tuple[str, str], str] = {}
        self.lates: dict[tuple[int, str], LateRow] = {}
        self.claimed: set[str] = set()
        # Match keys that wait at other nodes, and shards whose jobs are not claimed any more.
        self.elsewhere: Collection[str] = ()
        self.closing: set[int] = set()
        self.alone: str | None = None
        self.load_job: Callable[[str], JobRow | None] = lambda _: None
        self.load_task: Callable[[str], TaskRow | None] = lambda _: None
        self.load_request: Callable[[str, str], str | None] = lambda _owner, _request: None
        self.load_late: Callable[[int, str], LateRow | None] = lambda _task, _worker: None
        self.ready: deque[tuple[str, int]] = deque()
        self.suspects: deque[tuple[str, int]] = deque()
        self._timers: list[tuple[int, int, bool, str]] = []
        self._number = 0
        self._ready_number = 0
        self.changed: dict[Row, None] = {}
        self.notices: list[tuple[JobRow, int, tuple[HistoryEvent, ...]]] = []
        self.ends: list[JobRow] = []
        self.happened: list[tuple[JobRow, int, int]] = []
        self._keys: set[str] = set()
        self._spawns: set[tuple[str, int]] = set()
        self._stops = False
        self.backlog = Backlog(self.tasks, self.hint_key)

    def owner(self, task: TaskRow) -> JobRow:
        """The job of a task. It exists as long as the task does."""
        row = self.job(task.job_id)
        assert row is not None  # noqa: S101  tasks are purged with their jobs
        return row

    def edit(self, row: AnyRow) -> AnyRow:
        """Note that the operation changes this row, and return it."""
        self.changed[row] = None
        return row

    @property
    def touched(self) -> bool:
        """Whether the operation has changed a row or written a line of history."""
        return bool(self.changed or self.notices)

    def done(self) -> Hint | None:
        """End the operation and clear its changes.

        Returns:
            the hint to give once the changes are durable; None: there is nothing to hint at.
        """
        jobs = frozenset([row.job_id for row in self.changed])
        told, ends = bool(self.notices) and self.settings.history_backlog is not None, bool(self.ends)
        happened = bool(self.happened)
        self.changed.clear()
        self.notices.clear()
        self.ends.clear()
        self.happened.clear()
        keys, spawns, stops = _NONE, frozenset(self._spawns), self._stops
        if self._keys:
            keys = frozenset([key for key in self._keys if self.backlog.waiting.get(key)])
        for hints in (self._keys, self._spawns):
            if hints:
                hints.clear()
        self._stops = False
        due = self.next_due()
        if len(self._timers) > MOST_STALE + 2 * (len(self.jobs) + len(self.tasks)):
            self._timers = [entry for entry in self._timers if self._armed(entry)]
            heapify(self._timers)
        if not (keys or spawns or stops or jobs or told or due):
            return None
        return Hint(stops, due, keys, spawns, jobs, told, ends=ends, events=happened)

    def number(self, job_id: str) -> int:
        """A new arrival number for a row of a job. No other row of the store ever has it, in whatever shard."""
        self._number = max(self._number + 1, self.now * NUMBERS_A_MS // self.shards)
        return self._number * self.shards + shard_of(job_id)

    def number_from(self, last: int) -> None:
        """Continue after the last arrival number of an earlier owner of a shard."""
        self._number = max(self._number, last // self.shards)

    @staticmethod
    def token() -> str:
        """A new claim or lease id: 128 random bits."""
        return random_id()

    # Rows ------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobRow | None:
        """A job's row; None if it is unknown, or over and not fetched."""
        return self.jobs.get(job_id) or self.load_job(job_id)

    def task(self, task_id: str) -> TaskRow | None:
        """A task's row; None if it is unknown, or over and not fetched."""
        return self.tasks.get(task_id) or self.load_task(task_id)

    def request(self, owner: str, request_id: str) -> str | None:
        """The id of the job that an owner's request created; None if it is unknown, or over and not fetched."""
        return self.requests.get((owner, request_id)) or self.load_request(owner, request_id)

    def add_job(self, row: JobRow) -> None:
        """Add a new job."""
        self.jobs[row.id] = self.edit(row)
        if row.request_id is not None:
            self.requests[row.owner, row.request_id] = row.id

    def add_task(self, row: TaskRow) -> None:
        """Add a new task."""
        self.tasks[row.id] = self.edit(row)

    def forget(self, row: Row) -> None:
        """Remove a durable row that is over from the tables."""
        if isinstance(row, TaskRow):
            self.tasks.pop(row.id, None)
        elif isinstance(row, JobRow):
            self.jobs.pop(row.id, None)
            if row.request_id is not None:
                self.requests.pop((row.owner, row.request_id), None)
        elif isinstance(row, LateRow):
            self.lates.pop((row.task, row.worker_id), None)

    def worker(self, worker_id: str) -> WorkerRow:
        """A worker's row; a new one if the worker is unknown."""
        row = self.workers.get(worker_id)
        if row is None:
            row = self.workers[worker_id] = WorkerRow(worker_id)
        return row

    def absorb(self, loaded: Tables) -> None:
        """Add the rows of a shard that was loaded into tables of its own."""
        self.jobs.update(loaded.jobs)
        self.tasks.update(loaded.tasks)
        self.requests.update(loaded.requests)
        for other in loaded.workers.values():
            self.worker(other.id).held.update(other.held)
        self.number_from(loaded._number * self.shards)
        self._ready_number = max(self._ready_number, loaded._ready_number)
        self.ready += loaded.ready
        self.suspects += loaded.suspects
        # A heap already; most shards are loaded while there is no other.
        self._timers, others = loaded._timers, self._timers
        if others:
            self._timers += others
            heapify(self._timers)
        self._spawns |= loaded._spawns
        self.backlog.absorb(loaded.backlog)

    def expel(self, shard: int, hosted: Container[str] = ()) -> None:
        """Forget all rows of a shard that is lost. Indexes are cleaned lazily, as ever.

        Arguments:
            hosted: workers whose leases of the shard's tasks still count, because their sessions are at this node.
        """
        self.closing.discard(shard)
        for row in [one for one in self.jobs.values() if shard_of(one.id) == shard]:
            self.let_go(row)
            self.forget(row)
        for task in [one for one in self.tasks.values() if shard_of(one.id) == shard]:
            if task.state is QUEUED:
                self.backlog.dequeued(task)
            self.forget(task)
        for late in [one for one in self.lates.values() if shard_of(one.job_id) == shard]:
            self.forget(late)
        for worker in self.workers.values():
            if worker.id in hosted:
                continue
            for lease_id in [lease for lease, task_id in worker.held.items() if shard_of(task_id) == shard]:
                del worker.held[lease_id]

    def drop_worker(self, row: WorkerRow) -> None:
        """Remove a worker that has no live session and no leases."""
        del self.workers[row.id]

    def put(self, where: dict[Key, AnyRow], key: Key, row: AnyRow) -> None:
        """Add a new row of any other kind to its table."""
        where[key] = self.edit(row)

    def late(self, owner: JobRow, task: TaskRow, worker_id: str) -> LateRow:
        """The count of a worker's late results for a task; a new row if there is none."""
        key = task.n, worker_id
        row = self.lates.get(key) or self.load_late(*key)
        if row is None:
            row = LateRow(owner.id, owner.n, *key)
            self.put(self.lates, key, row)
        return row

    def tell(self, row: JobRow, events: Iterable[HistoryEvent]) -> None:
        """Add lines to a job's history."""
        lines = tuple(events)
        if lines:
            self.notices.append((row, row.history_seq + 1, lines))
            row.history_seq += len(lines)

    # Ready jobs ------------------------------------------------------------------------------------------------

    def mark_ready(self, row: JobRow) -> None:
        """Queue a job for a claim, unless it is queued, claimed or over."""
        if row.ready_seq or row.claim_id or row.over:
            return
        self._ready_number += 1
        row.ready_seq = self._ready_number
        (self.suspects if row.deliveries else self.ready).append((row.id, row.ready_seq))

    def next_ready(self, *, suspect: bool) -> JobRow | None:
        """Take the job that has been ready longest out of its queue; None if the queue is empty."""
        queue = self.suspects if suspect else self.ready
        while queue:
            job_id, ready_seq = queue.popleft()
            row = self.jobs.get(job_id)
            if (
                row is not None
                and row.ready_seq == ready_seq
                and not (self.closing and shard_of(job_id) in self.closing)
            ):
                return row
        return None

    def has_suspects(self) -> bool:
        """Whether a suspect, a job that may run only alone, waits for a claim."""
        while self.suspects:
            job_id, ready_seq = self.suspects[0]
            row = self.jobs.get(job_id)
            if row is not None and row.ready_seq == ready_seq:
                return True
            self.suspects.popleft()
        return False

    def hold(self, row: JobRow) -> None:
        """Note the claim on a job. While a suspect is claimed, no other job can be claimed."""
        self.claimed.add(row.id)
        if row.deliveries > 1:
            self.alone = row.id

    def let_go(self, row: JobRow) -> None:
        """Note the end of the claim on a job."""
        self.claimed.discard(row.id)
        if self.alone == row.id:
            self.alone = None

    @staticmethod
    def take_hold(worker: WorkerRow, lease_id: str, task_id: str) -> None:
        """Count a lease against its worker's credits."""
        worker.held[lease_id] = task_id

    @staticmethod
    def lose_hold(worker: WorkerRow, lease_id: str) -> None:
        """Stop counting a lease against its worker's credits."""
        del worker.held[lease_id]

    # Timers and wake-ups ---------------------------------------------------------------------------------------

    def arm(self, row: JobRow | TaskRow) -> None:
        """Set a row's timer, so that the row is processed at its `next_time` at the latest."""
        due = row.next_time()
        if due is not None and (row.timer_at is None or due < row.timer_at):
            self._set_timer(row, due)

    def _set_timer(self, row: JobRow | TaskRow, due: int) -> None:
        row.timer_at = due
        heappush(self._timers, (due, row.n, isinstance(row, JobRow), row.id))

    def next_due(self) -> int | None:
        """When the earliest timer is due; None: there is none. Outdated timers before it are moved or dropped."""
        while self._timers:
            entry = self._timers[0]
            row = self._armed(entry)
            if row is not None:
                due = row.next_time()
                if due is not None and due <= entry[0]:
                    return entry[0]
                row.timer_at = None
                if due is not None:
                    self._set_timer(row, due)
            heappop(self._timers)
        return None

    def _armed(self, entry: tuple[int, int, bool, str]) -> JobRow | TaskRow | None:
        """The row of a timer entry; None if the entry is stale."""
        row = self.jobs.get(entry[3]) if entry[2] else self.tasks.get(entry[3])
        return row if row is not None and row.timer_at == entry[0] else None

    def pop_due(self, now: int) -> JobRow | TaskRow | None:
        """The next row whose timer is due, with the timer removed; None if none is due."""
        due = self.next_due()
        if due is None or due > now:
            return None
        entry = heappop(self._timers)
        row = self.jobs[entry[3]] if entry[2] else self.tasks[entry[3]]
        row.timer_at = None
        return row

    def hint_key(self, key: str) -> None:
        """Hint that a task of this match key may be leased."""
        self._keys.add(key)

    def hint_stop(self) -> None:
        """Hint that a worker must be told to stop a task."""
        self._stops = True

    def hint_spawn(self, job_id: str, step: int) -> None:
        """Hint that the next chunk of a fan-out should become tasks."""
        self._spawns.add((job_id, step))
