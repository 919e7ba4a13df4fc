"""The core: jobs, their inboxes and the claims on them."""

from __future__ import annotations

from holon.core.rows import JobRow
from holon.core.tables import Tables
from holon.domain.events import CancelRequested, InboxEvent
from holon.ports import Appended, Claim
from holon.stores.records import decode_job


def append(tables: Tables, job_id: str, event: InboxEvent, keys: tuple[str, str], most: int | None) -> Appended:
    """Put an event into a job's inbox, at most once for each key.

    Arguments:
        keys: the event's deduplication key, and the request's key or an empty text.
        most: the most events in the inbox; None: the store's limit.
    """
    row = tables.job(job_id)
    if row is None:
        return Appended.UNKNOWN
    dedup_key, request_key = keys
    asked_before = bool(request_key) and request_key in row.dedups
    if asked_before or dedup_key in row.dedups:
        if request_key and not asked_before and not row.over:
            _remember(tables, row, request_key, dedup_key)
        return Appended.DUPLICATE
    if row.over:
        return Appended.OVER
    if len(row.inbox) >= (tables.settings.max_inbox if most is None else most):
        return Appended.FULL
    _remember(tables, row, *filter(None, (request_key, dedup_key)))
    deliver(tables, row, event)
    return Appended.APPENDED


def _remember(tables: Tables, row: JobRow, *keys: str) -> None:
    """Add deduplication keys to a job, newest last; the oldest keys beyond the limit are dropped."""
    others = (key for key in row.dedups if key not in keys)
    tables.edit(row).dedups = (*others, *keys)[-tables.settings.max_inbox :]


def deliver(tables: Tables, row: JobRow, event: InboxEvent) -> None:
    """Put an event into the inbox of a live job, and make the job ready."""
    tables.edit(row)
    row.inbox_seq += 1
    row.inbox = (*row.inbox, (row.inbox_seq, event))
    row.cancel_pending = row.cancel_pending or isinstance(event, CancelRequested)
    tables.mark_ready(row)


def claim(tables: Tables, limit: int) -> tuple[Claim, ...]:
    """Claim ready jobs, those first that have been ready longest, until `limit` jobs are claimed.

    A job that was delivered before without a commit is a suspect: its handler may have crashed the process. A suspect
    runs alone, so that a crash makes no other job a suspect.
    """
    claims: list[Claim] = []
    while len(tables.claimed) < limit and (tables.ready or tables.suspects) and not tables.alone:
        if not tables.claimed and (row := tables.next_ready(suspect=True)) is not None:
            claims.append(_claimed(tables, row))
            break
        if tables.has_suspects():
            break
        row = tables.next_ready(suspect=False)
        if row is None:
            break
        claims.append(_claimed(tables, row))
    return tuple(claims)


def _claimed(tables: Tables, row: JobRow) -> Claim:
    tables.edit(row)
    row.ready_seq = 0
    row.deliveries += 1
    row.claim_id = tables.token()
    tables.hold(row)
    return Claim(decode_job(row.state), row.claim_id, row.inbox, row.deliveries)


def release(tables: Tables, job_id: str, claim_id: str, *, counted: bool) -> None:
    """Give back a claim without a commit, if it is still held.

    Arguments:
        counted: whether the delivery counts, as if the process had ended.
    """
    row = tables.jobs.get(job_id)
    if row is not None and row.claim_id == claim_id:
        tables.edit(row)
        if not counted:
            row.deliveries = 0
        unclaim(tables, row)


def unclaim(tables: Tables, row: JobRow) -> None:
    """End the claim on an edited job; mark it ready again if it is due or has events."""
    tables.let_go(row)
    row.claim_id = ""
    if row.due or row.inbox:
        tables.mark_ready(row)
