"""The ledger: jobs come into being, with their first step if that is decided already."""

from __future__ import annotations

from collections.abc import Sequence

from holon.ports import Created, Creation, NewJob, Seat
from holon.storage.ledger.jobs import claim
from holon.storage.ledger.leases import lease
from holon.storage.ledger.rows import JobRow
from holon.storage.ledger.shared import count_job
from holon.storage.ledger.steps import land
from holon.storage.ledger.tables import Tables


def create_jobs(
    tables: Tables, items: Sequence[tuple[NewJob, bytes]], want: int, seats: Sequence[Seat], now: int
) -> Created:
    """Create jobs, all or none. With each item comes its encoded state: after its first step, if it has one."""
    replies: list[tuple[str, Creation]] = []
    for new, state in items:
        job = new.job
        if new.request_id is not None:
            known = tables.request(job.owner, new.request_id)
            row = tables.job(known) if known else None
            if row is not None:
                same = row.request_digest == new.request_digest
                replies.append((row.id, Creation.EXISTING if same else Creation.CONFLICT))
                continue
        if new.quota is not None and not count_job(tables, new.quota):
            replies.append((job.id, Creation.OVER_QUOTA))
            continue
        row = JobRow(tables.number(), job.id, job.owner, job.blueprint, job.status, state, now)
        row.request_id = new.request_id
        row.request_digest = new.request_digest
        tables.add_job(row)
        if new.step is None:
            tables.tell(row, new.history)
        else:
            land(tables, row, new.step, state, new.history, now)
        if row.due:
            tables.mark_ready(row)
        replies.append((row.id, Creation.CREATED))
    leased = lease(tables, seats, now)
    return Created(tuple(replies), claim(tables, want, now), leased)
