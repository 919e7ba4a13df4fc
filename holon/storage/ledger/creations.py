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


def repeats(tables: Tables, items: Sequence[NewJob]) -> list[tuple[str, Creation]] | None:
    """What repeats of request ids are answered, where all are; None when one of the items would make a job."""
    replies = [_repeat(tables, new) for new in items]
    known = [reply for reply in replies if reply is not None]
    return known if len(known) == len(replies) else None


def _repeat(tables: Tables, new: NewJob) -> tuple[str, Creation] | None:
    if new.request_id is None:
        return None
    known = tables.request(new.job.owner, new.request_id)
    row = tables.job(known) if known else None
    if row is None:
        return None
    return row.id, Creation.EXISTING if row.request_digest == new.request_digest else Creation.CONFLICT


def create_jobs(
    tables: Tables, items: Sequence[tuple[NewJob, bytes]], want: int, seats: Sequence[Seat], now: int
) -> Created:
    """Create jobs, all or none. With each item comes its encoded state: after its first step, if it has one."""
    replies: list[tuple[str, Creation]] = []
    for new, state in items:
        job = new.job
        if (reply := _repeat(tables, new)) is not None:
            replies.append(reply)
            continue
        if new.quota is not None and not count_job(tables, new.quota):
            replies.append((job.id, Creation.OVER_QUOTA))
            continue
        row = JobRow(tables.number(), job.id, job.owner, job.blueprint, job.status, state, now)
        row.request_id = new.request_id
        row.request_digest = new.request_digest
        row.budget = job.budget
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
