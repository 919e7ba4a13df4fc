"""The core: what jobs cost. Of a job with a budget each attempt is reserved before it can begin: with the step that
makes its task, or, where that does not say what it may cost, with the lease.

A reservation becomes a charge with the outcome of its attempt, of no more than it. What is not known to have ended
stays reserved under its lease until its worker reports.
"""

from __future__ import annotations

from holon.core.rows import JobRow, TaskRow
from holon.core.tables import Tables
from holon.domain.children import is_nodes_own
from holon.domain.costs import Cost, total

# Of so many leases it is waited for what they cost; a lease that is lost beyond them is charged all of it at once.
MOST_UNREPORTED = 256


def affords(row: JobRow, amount: int) -> bool:
    """Whether so much may be reserved of what is left of a job's budget."""
    return row.budget is None or amount <= _left(row, row.budget)


def eaten(row: JobRow, amount: int) -> bool:
    """Whether a job's budget would cover so much without what it keeps for lost attempts."""
    return row.budget is not None and bool(row.unreported) and amount <= _left(row, row.budget) + unreported(row)


def _left(row: JobRow, budget: int) -> int:
    return budget - (row.cost or 0) - row.reserved - unreported(row)


def unreported(row: JobRow) -> int:
    """What leases that are over may yet be charged."""
    return sum([kept for _, kept in row.unreported]) if row.unreported else 0


def settle(tables: Tables, task: TaskRow, cost: Cost) -> Cost:
    """Charge the job of an edited task for the attempt of its last lease; answers with what it was charged."""
    if most := task.may_cost:
        row = _free(tables, task)
        if task.written_off:
            return most
        charge: Cost = most if cost is None else min(cost, most)
        _take_report(row, task.lease_id)
    elif cost is not None:
        row = tables.edit(tables.owner(task))
        # Of a job with a budget it is one that may cost nothing.
        charge = cost if row.budget is None else 0
    else:
        return None
    row.cost = total(row.cost, charge)
    return charge


def free(tables: Tables, task: TaskRow) -> None:
    """No attempt of an edited task begins any more: what it has reserved is free."""
    if task.reserved:
        _free(tables, task)


def leave(tables: Tables, task: TaskRow) -> None:
    """The lease of an edited task is over, and what its attempt costs will be known later, if ever."""
    if task.reserved:
        kept = task.reserved
        row = _free(tables, task)
        if task.written_off:
            return
        if len(row.unreported) < MOST_UNREPORTED:
            row.unreported = (*row.unreported, (task.lease_id, kept))
        else:
            # The task may still go on under it, or end with its result.
            task.written_off = True
            row.cost = total(row.cost, kept)


def lose(tables: Tables, task: TaskRow) -> None:
    """The lease of an edited task was lost: as `leave`, but what a node does by itself goes on wherever it is next."""
    if not is_nodes_own(task.worker_id):
        leave(tables, task)


def reserve(tables: Tables, task: TaskRow, price: Cost) -> bool:
    """Reserve what an attempt of an edited task may cost that does not say so itself, as its worker declares it.

    Arguments:
        price: None: that is not known here, and it may cost all that is left.

    Returns:
        whether what is left of the job's budget is enough; if not, nothing has changed.
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
    """Reserve another attempt of an edited task, if what is left of its job's budget is enough.

    That of one that does not say what it may cost is reserved once somebody takes it.
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
    """A lease that was over goes on, under what was reserved for the next attempt, or else what was kept for it."""
    if task.may_cost:
        row = tables.edit(tables.owner(task))
        kept = _take_report(row, task.lease_id)
        if not task.reserved:
            row.reserved += kept
            task.reserved = kept


def reported(tables: Tables, row: JobRow, lease_id: str, cost: Cost) -> Cost:
    """A worker says, late, what the attempt of a lease cost that is over; answers with what its job was charged."""
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
    """What an edited job keeps for a lease, which it does no longer."""
    kept = sum(amount for lease, amount in row.unreported if lease == lease_id)
    if kept:
        row.unreported = tuple(entry for entry in row.unreported if entry[0] != lease_id)
    return kept
