"""The core: sessions of workers, and leases within their credits."""

from __future__ import annotations

from collections.abc import Sequence

from holon.core.costs import reserve, resumed
from holon.core.endings import lost, too_dear
from holon.core.rows import BACK_OFF, LEASED, OFFERED, OVER, QUEUED, TaskRow, WorkerRow
from holon.core.tables import Tables
from holon.core.tasks import queued_changed, queued_fewer
from holon.domain.attempts import Loss, Unfinished
from holon.domain.task import job_of
from holon.ports import Attempt, Leased, Offer, Opened, Opening, Seat, Superseded

# A task keeps this many of its newest attempts. Nothing else limits how often it is leased.
MOST_ATTEMPTS = 1_000
# At most this many tasks end in one call because their worker's price is above the rest of the budget.
MOST_TOO_DEAR = 1_000


def lease(tables: Tables, seats: Sequence[Seat], now: int) -> Leased:
    """Lease the first tasks of the backlog to seats, in the order of the seats, within the credits of their workers.

    If the rest of its job's budget does not cover the worker's price, a task ends instead.

    Returns:
        the offers, and the match keys of the seats that still have waiting tasks.
    """
    offers: list[Offer] = []
    most_too_dear = MOST_TOO_DEAR
    for seat in seats:
        worker = tables.workers.get(seat.worker_id)
        if worker is None or worker.session_id != seat.session_id or not worker.live:
            continue
        room = min(seat.n, worker.credits - len(worker.held))
        # A task that ends may end other tasks of its job, so with prices only one task is taken at a time.
        at_once = 1 if seat.prices else room
        while (
            room > 0
            and most_too_dear
            and (tasks := tables.backlog.take(seat.keys, worker.id, seat.only, now, min(at_once, room)))
        ):
            granted = [
                _granted(tables, task, worker, now)
                for task in tasks
                if task.reserves is not None or reserve(tables, tables.edit(task), seat.prices.get(task.key))
            ]
            queued_fewer(tables, tasks, now)
            offers += granted
            room -= len(granted)
            if not granted:
                too_dear(tables, tasks[0], seat.prices[tasks[0].key], now)
                most_too_dear -= 1
    waiting, elsewhere = tables.backlog.waiting, tables.elsewhere
    left = frozenset([key for seat in seats for key in seat.keys if waiting.get(key) or key in elsewhere])
    if not most_too_dear:
        # This call left tasks because of its limit; without a hint no other call might reach them.
        for key in left:
            tables.hint_key(key)
    return Leased(tuple(offers), left)


def _granted(tables: Tables, task: TaskRow, worker: WorkerRow, now: int) -> Offer:
    tables.edit(task)
    task.state = OFFERED
    task.worker_id, task.session_id = worker.id, worker.session_id
    task.lease_id = tables.token()
    task.lease_until = now + tables.settings.offer
    task.written_off = False
    task.over_reason = None
    task.execution_due = None
    task.attempt += 1
    task.attempts = (*task.attempts[1 - MOST_ATTEMPTS :], Attempt(worker.id, now, None, None))
    tables.take_hold(worker, task.lease_id, task.id)
    tables.arm(task)
    return offer_of(tables, task, now)


def execution(tables: Tables, task: TaskRow) -> int:
    """The execution timeout of a task with its worker, in milliseconds."""
    worker = tables.workers.get(task.worker_id)
    own = worker.execution if worker is not None else None
    return task.execution_timeout or own or tables.settings.execution


def keeps_for(tables: Tables, task: TaskRow) -> int:
    """How long a lease lasts after the worker's last message about it, in milliseconds."""
    if task.lost_after:
        return max(task.lost_after, tables.settings.lease)
    return task.lease_lasts or tables.settings.lease


def offer_of(tables: Tables, task: TaskRow, now: int) -> Offer:
    """The offer of a task under its current lease."""
    until = now + execution(tables, task) if task.execution_due is None else task.execution_due
    if task.result_due is not None:
        until = min(until, task.result_due)
    need = task.need
    # Positional, in field order: keyword arguments would take longer than the rest of the call.
    return Offer(
        task.worker_id,
        task.session_id,
        task.id,
        task.lease_id,
        task.job_id,
        need.skill,
        need.version,
        need.type,
        task.params,
        task.priority,
        task.generation,
        task.attempt,
        max(0, until - now),
        until,
        task.retry,
        task.trace,
        keeps_for(tables, task) if task.lost_after else None,
        need.allowed_skills,
        need.max_cost if task.reserves is not None else task.price,
        need.contracts,
        need.statuses,
        need.resources,
        need.hint,
    )


def open_session(tables: Tables, opening: Opening, now: int) -> Opened:
    """Make a session the current one of its worker.

    Leases of the earlier session that it does not resume are lost: their tasks are queued again, or end. A session may
    be opened again, and keeps what it has.
    """
    worker = tables.worker(opening.worker_id)
    if worker.live and worker.proof > opening.proof:
        return Opened(None, outranked=True)
    replaced = worker.session_id if worker.live and worker.session_id != opening.session_id else None
    old = worker.held
    # If the process is the same, an offer may not have reached it. If it is another, the earlier process may have begun
    # any offer.
    other = bool(worker.instance_id and opening.instance_id) and worker.instance_id != opening.instance_id
    # Worker rows are in memory only, so the tables need not learn of these changes.
    worker.session_id, worker.live, worker.credits = opening.session_id, True, opening.credits
    worker.lease, worker.execution, worker.instance_id = opening.lease, opening.execution, opening.instance_id
    worker.proof = opening.proof
    worker.held, worker.stops = {}, ()
    kept: list[Offer] = []
    dropped: list[tuple[str, str, Superseded]] = []
    losses: list[Loss] = []
    for task_id, lease_id in opening.resumed:
        task = tables.task(task_id)
        if task is not None and task.lease_id == lease_id and resume(tables, task, worker, now):
            kept.append(offer_of(tables, task, now))
        else:
            dropped.append((task_id, lease_id, why_not(tables, task_id, task, lease_id)))
    for lease_id, task_id in old.items():
        task = tables.task(task_id) if lease_id not in worker.held else None
        if task is None or task.lease_id != lease_id or task.state not in (OFFERED, LEASED):
            continue
        if task.session_id == worker.session_id:
            # The session's own: its host asked for a task while this call was on its way.
            tables.take_hold(worker, lease_id, task_id)
        else:
            loss = lost(tables, tables.edit(task), Unfinished.WORKER_REPLACED, now, begun=other)
            losses += () if loss is None else (loss,)
    return Opened(replaced, tuple(kept), tuple(dropped), tuple(losses))


def resume(tables: Tables, task: TaskRow, worker: WorkerRow, now: int) -> bool:
    """Move a lease to its worker's current session; returns whether it did.

    An expired lease can be resumed while no other worker has the task. A lease with a result or a handback cannot.
    """
    ended = task.applied_lease == task.lease_id or task.state in (OVER, BACK_OFF)
    if ended or not task.session_id or task.worker_id != worker.id:
        return False
    tables.edit(task)
    if task.state is QUEUED:
        tables.backlog.dequeued(task)
        queued_changed(tables, task, -1, now)
        task.attempts = (
            *task.attempts[:-1],
            Attempt(worker.id, task.attempts[-1].offered, task.attempts[-1].leased, None),
        )
        resumed(tables, task)
        # Marks that the lease had expired: its worker may have stopped the task, and report that only now.
        task.over_reason = Superseded.STALE_TASK
    task.session_id = worker.session_id
    tables.take_hold(worker, task.lease_id, task.id)
    hold(tables, task, now)
    return True


def hold(tables: Tables, task: TaskRow, now: int, ago: int = 0) -> None:
    """Extend the lease of a task from now. The first call for a lease also starts its execution timeout.

    The new end of the lease is in memory only.

    Arguments:
        ago: how many milliseconds ago the worker accepted the lease.
    """
    worker = tables.workers.get(task.worker_id)
    lasts, last = (worker.lease if worker is not None else None) or 0, task.attempts[-1]
    known = task.accepted and task.execution_due is not None and last.leased is not None
    if not known or task.state is not LEASED or task.lease_lasts != lasts:
        tables.edit(task)
        task.state, task.accepted, task.lease_lasts = LEASED, True, lasts
        if task.execution_due is None:
            task.execution_due = now + execution(tables, task)
        if last.leased is None:
            leased = max(last.offered, now - ago)
            task.attempts = (*task.attempts[:-1], Attempt(last.worker_id, last.offered, leased, None))
    task.lease_until = now + keeps_for(tables, task)
    tables.arm(task)


def why_not(tables: Tables, task_id: str, task: TaskRow | None, lease_id: str) -> Superseded:
    """Why a lease is not valid, or no longer valid, for the caller that named it."""
    if task is None:
        return Superseded.JOB_NOT_FOUND if tables.job(job_of(task_id)) is None else Superseded.STALE_TASK
    if task.applied_lease == lease_id or task.state in (OVER, BACK_OFF):
        return task.over_reason or Superseded.STALE_TASK
    if task.lease_id != lease_id:
        return Superseded.STALE_TASK
    # A lease that has ended has no session; a repeat gets the reason for its end again.
    return Superseded.WORKER_MISMATCH if task.session_id else task.over_reason or Superseded.STALE_TASK


def close_session(tables: Tables, worker_id: str, session_id: str) -> None:
    """Mark a session as ended. Its leases stay until their deadline; its pending stops are dropped."""
    worker = tables.workers.get(worker_id)
    if worker is None or worker.session_id != session_id or not worker.live:
        return
    worker.live = False
    worker.stops = ()
    for lease_id, task_id in list(worker.held.items()):
        task = tables.tasks.get(task_id)
        if task is None or task.lease_id != lease_id or task.state not in (OFFERED, LEASED):
            tables.lose_hold(worker, lease_id)
    if not worker.held:
        tables.drop_worker(worker)
