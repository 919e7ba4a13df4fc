"""Approvals: the decisions of people, brought to the jobs that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from holon.domain.client import Client
from holon.domain.event_types import APPROVAL_TIMED_OUT
from holon.domain.events import ApprovalResolved
from holon.domain.job import Question, Waiting
from holon.domain.value import Value, replace
from holon.domain.wishes import DECISION, word_of
from holon.engine.job_errors import inbox_full, not_found
from holon.engine.passing_down import PassingDown
from holon.engine.payloads import decode, encode_object
from holon.engine.records import Records
from holon.engine.ways_down import Decision
from holon.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
    invalid,
)
from holon.ports import Appended, JobRecord, Storage

MAX_COMMENT = 4_096
# A job takes what is in its inbox at once, unless its node has gone, or has too much to do.
_PAUSES_S = (0.01, 0.05, 0.2, 0.5, 1.0)


class Deciding(Value, gc=True):
    """A decision, as somebody brings it.

    `data` is a JSON object that is merged into the job's state; None: nothing is. `comment` says why. `approval_id`
    names the question, which may be one of a job below; empty: the one that is open here. `request_id` makes the call
    repeatable; None: a repeat is refused. `above` is the parent holon that passes it down, and `decided_at` when it was
    made there, in epoch milliseconds.
    """

    decision: str
    data: Any = None
    comment: str = ""
    approval_id: str = ""
    request_id: str | None = None
    above: str = ""
    decided_at: int = 0


class Approvals:
    """Takes decisions. A question is answered once; whoever comes later is refused.

    Every method raises StoreUnavailable when the store is away, and may be repeated with its request id.

    Arguments:
        max_payload: the most bytes that the data of a decision may have.

    Attributes:
        passing: takes them to jobs below; None: there are none.
    """

    def __init__(self, store: Storage, records: Records, max_payload: int) -> None:
        self._store = store
        self._records = records
        self._max_payload = max_payload
        self.passing: PassingDown | None = None

    async def resolve(self, client: Client, job_id: str, given: Deciding, *, by: str = "") -> JobRecord:
        """Take the decision of a client who sees the job; durable when this returns. Answers with the job as it is now.

        Arguments:
            by: who decides; the client where nobody is named.
        Raises:
            NotFound: (JOB_NOT_FOUND) there is no such job, or it is another's.
            InvalidArgument: the decision is none that may be given, or what comes with it cannot be taken.
            Unavailable: (HOLON_AWAY) a job below asks it, and its holon is not there, or has not answered.
            FailedPrecondition: (APPROVAL_NOT_OPEN) the job asks nothing, or not this, or it was answered already.
            AlreadyExists: (REQUEST_ID_REUSED) the request id named another decision.
        """
        return await self._resolve(job_id, given, client.sees, by or client.name)

    async def resolve_by_right(
        self, job_id: str, given: Deciding, question: str, allowed: Callable[[str], bool], *, by: str
    ) -> JobRecord:
        """The same of somebody else, who says to have the right to decide one question.

        Arguments:
            question: which one.
            allowed: whether that is so, by who owns the job.
        Raises:
            Unauthenticated: (TOKEN_INVALID) it is not, or there is no such job.
        """
        refused = Unauthenticated(
            "Unauthorized: Invalid approval token: it is for another job or approval, or its owner's token was removed",
            code="TOKEN_INVALID",
        )
        if not question.startswith(f"{job_id}-") or given.approval_id not in ("", question):
            raise refused
        try:
            return await self._resolve(job_id, replace(given, approval_id=question), allowed, by)
        except NotFound:
            raise refused from None

    async def take(self, job_id: str, decision: Decision, command_id: str) -> None:
        """Take a decision that a job above this one, a part of it, was given; raises as `resolve`.

        Arguments:
            command_id: its name on all of its way, by which a repeat is known.
        """
        data = decode(decision.data, "data") if decision.data else None
        made = decision.comment, decision.approval_id, command_id, decision.above, decision.decided_at
        await self._resolve(job_id, Deciding(decision.decision, data, *made), lambda _: True, decision.by)

    async def _resolve(self, job_id: str, given: Deciding, allowed: Callable[[str], bool], by: str) -> JobRecord:
        data = self._checked(given)
        record = await self._records.job_of(job_id, allowed)
        if self.passing is not None and record.job.events and _is_below(job_id, given.approval_id):
            at = given.decided_at or self._store.now()
            passed = given.approval_id, given.decision, by, data, given.comment, given.request_id or "", given.above, at
            await self.passing.resolve(record, Decision(*passed))
            return await self._read(job_id)
        waiting = record.job.waiting
        question = waiting.question if waiting is not None else None
        if waiting is None or question is None or given.approval_id not in ("", question.id):
            return _repeated(record, given, _not_open(record, given))
        if given.decision not in waiting.decisions:
            return _repeated(record, given, _unknown(given.decision, waiting.decisions))
        request_id = given.request_id or ""
        event = ApprovalResolved(
            question.id, given.decision, by, data, given.comment, request_id, given.above, given.decided_at
        )
        asked = f"decide-{given.request_id}" if given.request_id else ""
        appended = await self._store.append(job_id, event, f"approval-{question.id}", asked)
        if appended is Appended.FULL:
            raise inbox_full(job_id)
        asked_at, record = record.sequence, await self._read(job_id)
        if appended is Appended.APPENDED:
            await self._check_in_time(record, waiting, question, asked_at)
            return record
        if given.request_id and not _is_repeat(record, given):
            record = await self._taken(record, question)
        return _repeated(record, given, _closed(job_id, question))

    async def _check_in_time(self, record: JobRecord, waiting: Waiting, question: Question, asked_at: int) -> None:
        """Raise FailedPrecondition where the time for a decision was over, and its job had gone on, when it came.

        At the line of that number the question was open.
        """
        if waiting.due is None or self._store.now() < waiting.due or _asks(record, question):
            return
        async for line in self._records.lines(record, asked_at):
            if line.type == APPROVAL_TIMED_OUT and line.details.get("approval_id") == question.id:
                raise _closed(record.job.id, question)

    async def _taken(self, record: JobRecord, question: Question) -> JobRecord:
        """The job once it has taken the decision that waits for it: only then is it known whose that is."""
        for pause in (*_PAUSES_S, None):
            if not _asks(record, question):
                return record
            if pause is not None:
                await asyncio.sleep(pause)
                record = await self._read(record.job.id)
        raise Unavailable(
            f"job {record.job.id} is processing a decision, this one or another; retry later",
            code="APPROVAL_PENDING",
            retry_after=_PAUSES_S[-1],
        )

    def _checked(self, given: Deciding) -> bytes:
        """The data of a decision as JSON text; raises InvalidArgument for what cannot be taken."""
        if not given.decision:
            raise invalid("decision", "is missing; send one of the possible decisions")
        if len(given.comment) > MAX_COMMENT:
            raise invalid("comment", f"has over {MAX_COMMENT} characters")
        return encode_object(given.data, self._max_payload, "data")

    async def _read(self, job_id: str) -> JobRecord:
        record = await self._records.job(job_id)
        if record is None:
            raise not_found(job_id)
        return record


def _repeated(record: JobRecord, given: Deciding, otherwise: Exception) -> JobRecord:
    """The job whose question was decided by this request already; raises what it is told otherwise."""
    if _is_repeat(record, given):
        return record
    raise otherwise


def _is_repeat(record: JobRecord, given: Deciding) -> bool:
    """Whether a job remembers that a question of it was decided by this request; raises AlreadyExists for another."""
    decision = word_of(record.job.wishes, DECISION, given.request_id)
    if decision not in (None, given.decision):
        raise AlreadyExists(
            f"request_id {given.request_id!r} was used for another decision; use a new one for each",
            code="REQUEST_ID_REUSED",
        )
    return decision is not None


def _is_below(job_id: str, approval_id: str) -> bool:
    """Whether a question is not of this job, whose questions have its name: a job below may ask it."""
    return approval_id != "" and not approval_id.startswith(f"{job_id}-")


def _asks(record: JobRecord, question: Question) -> bool:
    waiting = record.job.waiting
    return waiting is not None and waiting.question is not None and waiting.question.id == question.id


def _closed(job_id: str, question: Question) -> FailedPrecondition:
    message = f"job {job_id}: approval {question.id} is no longer open; it was decided, or the job has moved on"
    return FailedPrecondition(message, code="APPROVAL_NOT_OPEN")


def _not_open(record: JobRecord, given: Deciding) -> FailedPrecondition:
    job = record.job
    question = job.waiting.question if job.waiting is not None else None
    if question is None:
        why = f"has no open approval: it is {job.status}"
    else:
        why = f"has the open approval {question.id}, not {given.approval_id[:128]!r}, which is decided or never existed"
    return FailedPrecondition(f"job {job.id} {why}", code="APPROVAL_NOT_OPEN")


def _unknown(decision: str, allowed: tuple[str, ...]) -> InvalidArgument:
    return invalid("decision", f"is {decision[:128]!r}, which is not possible here; use {' or '.join(allowed)}")
