"""The core: creates jobs, each with its first step if the caller has decided it already."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from holon.core.leases import lease
from holon.core.rows import JobRow
from holon.core.steps import land
from holon.core.tables import Tables
from holon.ports import Created, Creation, NewJob, Seat


def is_repeat(tables: Tables, new: NewJob) -> bool:
    """Whether an item repeats a known request id."""
    return new.request_id is not None and made(tables, new.job.owner, new.request_id) is not None


def made(tables: Tables, owner: str, request_id: str) -> tuple[str, bytes] | None:
    """The id of the job that a request created, and the digest of the request; None if there is no such job."""
    known = tables.request(owner, request_id)
    row = tables.job(known) if known else None
    return None if row is None else (row.id, row.request_digest)


def _repeat(tables: Tables, new: NewJob) -> tuple[str, Creation] | None:
    if new.request_id is None:
        return None
    before = made(tables, new.job.owner, new.request_id)
    if before is None:
        return None
    job_id, digest = before
    return job_id, Creation.EXISTING if digest == new.request_digest else Creation.CONFLICT


def create_jobs(
    tables: Tables,
    items: Sequence[tuple[NewJob, bytes]],
    seats: Sequence[Seat],
    now: int,
    notes: Sequence[int | None] = (),
    over_quota: Collection[int] = (),
) -> Created:
    """Create jobs in one operation, with one reply for each item.

    Arguments:
        items: new jobs, each with its encoded state: after its first step, if it has one.
        notes: for each item the new version of its note, None if that was not written; empty if no item has one.
        over_quota: the places of items whose quota is used up.
    """
    replies: list[tuple[str, Creation]] = []
    for place, (new, state) in enumerate(items):
        job = new.job
        if new.note is not None and notes[place] is None:
            replies.append((job.id, Creation.OUTDATED))
            continue
        if (reply := _repeat(tables, new)) is not None:
            replies.append(reply)
            continue
        if place in over_quota:
            replies.append((job.id, Creation.OVER_QUOTA))
            continue
        row = JobRow(tables.number(job.id), job.id, job.owner, job.blueprint, job.status, state, now, now)
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
    return Created(tuple(replies), lease(tables, seats, now), tuple(notes))
