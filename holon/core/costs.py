"""The core: what jobs cost.

If a job has a budget, the core reserves the cost of each attempt before the attempt begins. The step that creates the
task reserves it; if the task names no amount, the lease does. The outcome of an attempt turns its reservation into a
charge of at most that amount. If a lease ends without an outcome, its amount stays kept until the worker reports.
"""

from __future__ import annotations

from holon.core.rows import JobRow, TaskRow
from holon.core.tables import Tables
from holon.domain.children import is_nodes_own
from holon.domain.costs import Cost, total

# A job keeps amounts for at most this many ended leases. Any further lease is charged its full amount at once.
MOST_UNREPORTED = 256


def affords(row: JobRow, amount: int) -> bool:
    """Whether the rest of a job's budget covers an amount."""
    return row.budget is None or amount <= _left(row, row.budget)


def eaten(row: JobRow, amount: int) -> bool:
    """Whether a job's budget would cover an amount if it kept nothing for lost attempts."""
    return row.budget is not None and bool(row.unreported) and amount <= _left(row, row.budget) + unreported(row)


def _left(row: JobRow, budget: int) -> int:
    return budget - (row.cost or 0) - row.reserved - unreported(row)


def unreported(row: JobRow) -> int:
    """The amount that ended leases without a reported cost may still be charged."""
    return sum([kept for _, kept in row.unreported]) if row.unreported else 0


def settle(tables: Tables, task: TaskRow, cost: Cost) -> Cost:
    """Charge the job of an edited task for the attempt of its last lease; returns the charge, None if there is none."""
    if most := task.may_cost:
        row = _free(tables, task)
        if task.written_off:
            return most
        charge: Cost = most if cost is None else min(cost, most)
        _take_report(row, task.lease_id)
    elif cost is not None:
        row = tables.edit(tables.owner(task))
        # If the job has a budget, this attempt may cost nothing: `may_cost` is 0.
        charge = cost if row.budget is None else 0
    else:
        return None
    row.cost = total(row.cost, charge)
    return charge


def free(tables: Tables, task: TaskRow) -> None:
    """Free the reservation of an edited task, because no further attempt begins."""
    if task.reserved:
        _free(tables, task)


def leave(tables: Tables, task: TaskRow) -> None:
    """Keep the reservation of an edited task under its lease, which ended before the attempt's cost is known."""
    if task.reserved:
        kept = task.reserved
        row = _free(tables, task)
        if task.written_off:
            return
        if len(row.unreported) < MOST_UNREPORTED:
            row.unreported = (*row.unreported, (task.lease_id, kept))
        else:
            # The lease may still be resumed, or bring a result; neither is charged again.
            task.written_off = True
            row.cost = total(row.cost, kept)


def lose(tables: Tables, task: TaskRow) -> None:
    """As `leave`, for a lost lease. A task of a node itself keeps its reservation: another node continues it."""
    if not is_nodes_own(task.worker_id):
        leave(tables, task)


def reserve(tables: Tables, task: TaskRow, price: Cost) -> bool:
    """Reserve the cost of an attempt for an edited task that names no amount itself.

    Arguments:
        price: the amount that the worker declares; None: unknown, so the whole rest of the budget is reserved.

    Returns:
        whether the rest of the job's budget covers it; if not, nothing is changed.
    """
    row = tables.owner(task)
    left = _left(row, row.budget or 0) + task.reserved
    price = left if price is None else price
    if price > left:
        return False
    tables.edit(row).reserved += price - task.reserved
    task.price = task.reserved = price
    return True


def again(tables: Tables, task: TaskRow) -> bool:
    """Reserve the next attempt of an edited task; returns whether the rest of its job's budget covers it.

    If the task names no amount, this returns True and the next lease reserves.
    """
    if not task.reserves or task.reserved:
        return True
    row = tables.owner(task)
    if not affords(row, task.reserves):
        return False
    tables.edit(row).reserved += task.reserves
    task.reserved = task.reserves
    return True


def resumed(tables: Tables, task: TaskRow) -> None:
    """Resume the lease of an edited task, with the next attempt's reservation or else the amount kept for the lease."""
    if task.may_cost:
        row = tables.edit(tables.owner(task))
        kept = _take_report(row, task.lease_id)
        if not task.reserved:
            row.reserved += kept
            task.reserved = kept


def reported(tables: Tables, row: JobRow, lease_id: str, cost: Cost) -> Cost:
    """Charge a job for an ended lease whose worker reports the cost late; returns the charge, None if there is none."""
    if not row.unreported:
        return None
    kept = _take_report(tables.edit(row), lease_id)
    if not kept:
        return None
    charge = kept if cost is None else min(cost, kept)
    row.cost = total(row.cost, charge)
    return charge


def _free(tables: Tables, task: TaskRow) -> JobRow:
    row = tables.edit(tables.owner(task))
    row.reserved -= task.reserved
    task.reserved = 0
    return row


def _take_report(row: JobRow, lease_id: str) -> int:
    """Remove the amount that an edited job keeps for a lease, and return it; 0 if there is none."""
    kept = sum(amount for lease, amount in row.unreported if lease == lease_id)
    if kept:
        row.unreported = tuple(entry for entry in row.unreported if entry[0] != lease_id)
    return kept
