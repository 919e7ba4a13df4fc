"""The core: creates jobs, each with its first step if the caller has decided it already."""

from __future__ import annotations

from collections.abc import Sequence

from holon.core.jobs import claim
from holon.core.leases import lease
from holon.core.rows import JobRow
from holon.core.shared import count_job, put_document
from holon.core.steps import land
from holon.core.tables import Tables
from holon.ports import Created, Creation, NewJob, Note, Seat


def repeats(tables: Tables, items: Sequence[NewJob], seats: Sequence[Seat], now: int) -> Created | None:
    """The reply to items that all repeat known request ids; None if at least one would create a job."""
    if any(_repeat(tables, new) is None for new in items):
        return None
    return create_jobs(tables, [(new, b"") for new in items], 0, seats, now)


def _written(tables: Tables, note: Note | None, now: int) -> int | None:
    """Write a note; returns its new version, None if there is no note or its document has another version."""
    if note is None:
        return None
    put = note.put
    return put_document(tables, note.kind, put.key, put.value, put.version, put.expires_in, now)


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
    tables: Tables, items: Sequence[tuple[NewJob, bytes]], want: int, seats: Sequence[Seat], now: int
) -> Created:
    """Create jobs in one operation, with one reply for each item.

    Arguments:
        items: new jobs, each with its encoded state: after its first step, if it has one.
        want: the most jobs to claim.
    """
    replies: list[tuple[str, Creation]] = []
    notes = [_written(tables, new.note, now) for new, _ in items]
    for (new, state), noted in zip(items, notes, strict=True):
        job = new.job
        if new.note is not None and noted is None:
            replies.append((job.id, Creation.OUTDATED))
            continue
        if (reply := _repeat(tables, new)) is not None:
            replies.append(reply)
            continue
        if new.quota is not None and not count_job(tables, new.quota):
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
    leased = lease(tables, seats, now)
    has_notes = any(new.note is not None for new, _ in items)
    return Created(tuple(replies), claim(tables, want, now), leased, tuple(notes) if has_notes else ())
