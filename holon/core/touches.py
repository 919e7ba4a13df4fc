"""The core: messages of sessions that need no reply of their own, handled in batches."""

from __future__ import annotations

from collections.abc import Sequence

from holon.core.costs import lose, settle
from holon.core.endings import given_back
from holon.core.late import late_handback
from holon.core.leases import hold, lease, resume
from holon.core.rows import HARD, LEASED, OFFERED, QUEUED, UNSERVED, TaskRow
from holon.core.tables import Tables
from holon.core.tasks import give_up, held_by, progressed
from holon.domain.children import is_nodes_own
from holon.ports import Attempt, Handback, LeaseRef, Progress, Seat, Stop, StopReason, Touch, Touched

# This many handbacks of a task may let the same worker have it again sooner than after one lease. Without a limit, a
# worker that always hands it back would get it again for ever.
MOST_AT_ONCE = 5


def touch(tables: Tables, said: Touch, seats: Sequence[Seat], now: int) -> Touched:
    """Apply messages of sessions in this order: credits, acceptances, extensions, handbacks, progress."""
    for worker_id, session_id, granted in said.credits:
        worker = tables.workers.get(worker_id)
        if worker is not None and worker.session_id == session_id:
            worker.credits = granted
    told = (*((one.lease, one.ago) for one in said.accepts), *((ref, 0) for ref in said.extends))
    lost = tuple(ref for ref, ago in told if not _holds(tables, ref, ago, now))
    for handback in said.handbacks:
        _hand_back(tables, handback, now)
    for progress in said.progress:
        _progress(tables, progress)
    leased = lease(tables, seats, now)
    return Touched(lost, _take_stops(tables), leased)


def _current(tables: Tables, ref: LeaseRef) -> TaskRow | None:
    # No session has a task that is over, so tasks that are not in the tables need no look-up.
    task = tables.tasks.get(ref.task_id)
    if task is None or task.lease_id != ref.lease_id or held_by(tables, task, ref.session_id) is None:
        return None
    return task if task.worker_id == ref.worker_id else None


def _holds(tables: Tables, ref: LeaseRef, ago: int, now: int) -> bool:
    task = _current(tables, ref)
    if task is None:
        return False
    if task.state in (OFFERED, LEASED):
        hold(tables, task, now, ago)
        return True
    return task.state is QUEUED and resume(tables, task, tables.workers[task.worker_id], now)


def _hand_back(tables: Tables, handback: Handback, now: int) -> None:
    ref = handback.lease
    if _moved(tables, ref):
        return
    task = _current(tables, ref)
    give_up(tables, ref.worker_id, ref.lease_id)
    if task is not None and task.state in (OFFERED, LEASED):
        tables.edit(task)
        after, lease = handback.again_after, tables.settings.lease
        if after is None or after >= lease or task.at_once >= MOST_AT_ONCE:
            after = lease
        elif not is_nodes_own(ref.worker_id):
            # A node hands its own tasks back when it leaves, and such a task may outlast many nodes: not counted.
            task.at_once += 1
        charged = None
        if handback.cost is not None:
            charged = settle(tables, task, handback.cost)
        if handback.unheard:
            lose(tables, task)
        if handback.unbegun:
            _not_begun(task)
        how = UNSERVED if handback.unbegun else HARD
        until = now + after if after else None
        given_back(tables, task, now, handback.reason, avoid_until=until, cost=charged, how=how, code=handback.code)
    elif not handback.unheard:
        late_handback(tables, handback, now)


def _not_begun(task: TaskRow) -> None:
    """Mark an edited task as not begun under its last lease. Its dispatch timeout continues if it never was begun."""
    last = task.attempts[-1]
    task.attempts = (*task.attempts[:-1], Attempt(last.worker_id, last.offered, None, last.ended))
    task.accepted = task.generation > 1 or any(one.leased is not None for one in task.attempts)


def _moved(tables: Tables, ref: LeaseRef) -> bool:
    """Whether a later session of the worker has resumed the lease; then messages of the earlier one are ignored."""
    task = tables.tasks.get(ref.task_id)
    return (
        task is not None
        and task.lease_id == ref.lease_id
        and task.state in (OFFERED, LEASED)
        and task.session_id != ref.session_id
    )


def _progress(tables: Tables, progress: Progress) -> None:
    task = _current(tables, progress.lease)
    row = tables.job(task.job_id) if task else None
    if task is None or row is None or row.over or task.state not in (OFFERED, LEASED):
        return
    tables.edit(row)
    if progress.message is not None:
        row.message = progress.message
    if progress.percent is None:
        return
    if row.fan is None:
        row.progress = progress.percent
    elif row.fan.step == task.step:
        progressed(row, row.fan, progress.percent - task.progress)
    tables.edit(task).progress = progress.percent


def _take_stops(tables: Tables) -> tuple[Stop, ...]:
    stops: list[Stop] = []
    for worker in tables.workers.values():
        if worker.stops:
            stops += (stop for stop in worker.stops if not _taken_up(tables, stop))
            worker.stops = ()
    return tuple(stops)


def put_back(tables: Tables, stops: Sequence[Stop]) -> None:
    """Keep stops that `touch` gave out, because they reached nobody."""
    for stop in stops:
        worker = tables.workers.get(stop.lease.worker_id)
        if worker is not None and worker.session_id == stop.lease.session_id and stop.lease.lease_id in worker.held:
            worker.stops += (stop,)
            tables.hint_stop()


def _taken_up(tables: Tables, stop: Stop) -> bool:
    """Whether a task to stop because its lease expired has that lease again; then the stop must not be sent."""
    task = tables.tasks.get(stop.lease.task_id) if stop.reason is StopReason.LEASE_LOST else None
    return task is not None and task.lease_id == stop.lease.lease_id and task.state in (OFFERED, LEASED)
