"""Signals: what has happened outside, brought to the jobs that wait for it, or will."""

from __future__ import annotations

import secrets
from typing import Any

from holon.domain.client import Client
from holon.domain.job import CHOSEN_BY_NOBODY, Job, Status
from holon.domain.signals import (
    MAX_SIGNAL_BYTES,
    MAX_SIGNAL_NAME,
    MOST_KEPT,
    Signal,
    has_room,
    is_signal_name,
    most_waiting,
)
from holon.domain.value import Value, replace
from holon.domain.wishes import SIGNAL, word_of
from holon.engine.job_errors import inbox_full, not_found, signal_reused, terminated
from holon.engine.passing_signals import PassingSignals
from holon.engine.payloads import encode_object
from holon.engine.records import Records
from holon.errors import ResourceExhausted, invalid
from holon.ports import Appended, JobRecord, Storage

_RETRY_S = 1.0


class Sending(Value, gc=True):
    """A signal, as somebody sends it.

    `data` is a JSON object that is merged into the job's state; None: nothing is. `request_id` makes the call
    repeatable; None: a repeat is another signal. `to_job_id` is a job below, in a holon or a part here, as an event
    told it; empty: the job itself. `above` is the parent holon that passes it down, and `sent_at` when it was sent
    there, in epoch milliseconds.
    """

    name: str
    data: Any = None
    request_id: str | None = None
    to_job_id: str = ""
    above: str = ""
    sent_at: int = 0


class Signals:
    """Takes signals. A job that does not wait for one keeps it until it does.

    Every method raises StoreUnavailable when the store is away, and may be repeated with its request id.

    Attributes:
        passing: takes them to jobs below; None: there are none.
    """

    def __init__(self, store: Storage, records: Records) -> None:
        self._store = store
        self._records = records
        self.passing: PassingSignals | None = None

    async def send(self, client: Client, job_id: str, given: Sending, *, by: str = "") -> JobRecord:
        """Take the signal of a client who sees the job; durable when this returns. Answers with the job as it is now.

        Arguments:
            by: who sends it; the client where nobody is named.
        Raises:
            NotFound: (JOB_NOT_FOUND) there is no such job, or it is another's.
            InvalidArgument: it is none that may be sent.
            FailedPrecondition: (JOB_TERMINATED) the job is over; (SIGNAL_NOT_AWAITED) none below it has told that it
                waits.
            ResourceExhausted: (SIGNALS_FULL, INBOX_FULL) the job keeps too many that it has not waited for.
            Unavailable: (HOLON_AWAY) it is for a job below, and its holon is not there, or has not answered.
            AlreadyExists: (REQUEST_ID_REUSED) the request id named another signal.
        """
        data = _checked(given)
        record = await self._records.job_of(job_id, client.sees)
        signal = Signal(given.name, by or client.name, data, given.request_id or "", given.above, given.sent_at)
        if self.passing is None or given.to_job_id in ("", job_id):
            await self._put(record, signal)
        else:
            passed = replace(signal, sent_at=given.sent_at or self._store.now())
            await self.passing.send(record, given.to_job_id, passed)
        return await self._read(job_id)

    async def take(self, job_id: str, signal: Signal, command_id: str) -> None:
        """Take a signal that a job above this one, a part of it, was sent; raises as `send`.

        Arguments:
            command_id: its name on all of its way, by which a repeat is known.
        """
        await self._put(await self._read(job_id), replace(signal, request_id=command_id))

    async def _put(self, record: JobRecord, signal: Signal) -> None:
        job = record.job
        if _is_repeat(job, signal):
            return
        has_place = _awaits(job, signal.name) or has_room(job.signals)
        # Without a place it is only asked whether it is a repeat, which the inbox may know, and is none to refuse.
        most = most_waiting(len(signal.data)) if has_place else 0
        key = f"signal-{signal.request_id or secrets.token_hex(8)}"
        match await self._store.append(job.id, signal, key, most=most):
            case Appended.FULL:
                raise inbox_full(job.id) if has_place else _full(job)
            case Appended.UNKNOWN:
                # One that only the database of history has is over.
                raise terminated(job.id, job.status) if job.status.terminal else not_found(job.id)
            case Appended.OVER:
                raise terminated(job.id, (await self._read(job.id)).job.status)
            case Appended.DUPLICATE:
                await self._check_repeat(job.id, signal)

    async def _check_repeat(self, job_id: str, signal: Signal) -> None:
        """Raise AlreadyExists for another signal than the one that has its request id."""
        if not signal.request_id:
            return
        for waiting in await self._store.unread(job_id):
            if isinstance(waiting, Signal) and waiting.request_id == signal.request_id:
                _check_same(waiting.name, signal)
                return
        # It has been taken since, or is older than all that the job remembers.
        _is_repeat((await self._read(job_id)).job, signal)

    async def _read(self, job_id: str) -> JobRecord:
        record = await self._records.job(job_id)
        if record is None:
            raise not_found(job_id)
        return record


def _is_repeat(job: Job, signal: Signal) -> bool:
    """Whether a job remembers to have taken a signal by this request; raises AlreadyExists for another."""
    name = word_of(job.wishes, SIGNAL, signal.request_id)
    if name is not None:
        _check_same(name, signal)
    return name is not None


def _check_same(name: str, signal: Signal) -> None:
    """Raise AlreadyExists for another signal than the one of this name, whose request id it has."""
    if name != signal.name:
        raise signal_reused(signal.request_id)


def _full(job: Job) -> ResourceExhausted:
    return ResourceExhausted(
        f"job {job.id} keeps {len(job.signals)} unused signals, and the limit is {MOST_KEPT}; retry when it has used "
        "some",
        code="SIGNALS_FULL",
        retry_after=_RETRY_S,
    )


def _awaits(job: Job, name: str) -> bool:
    return job.status is Status.WAITING_FOR_SIGNAL and job.waiting is not None and name in job.waiting.decisions


def _checked(given: Sending) -> bytes:
    """What comes with a signal as JSON text; raises InvalidArgument for what cannot be taken."""
    if not is_signal_name(given.name):
        raise invalid(
            "name", f"is {given.name!r:.200}; use 1 to {MAX_SIGNAL_NAME} characters, without control characters"
        )
    if given.name in CHOSEN_BY_NOBODY:
        raise invalid("name", f"is {given.name!r}, which is reserved; use another name")
    return encode_object(given.data, MAX_SIGNAL_BYTES, "data")
