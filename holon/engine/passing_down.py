"""Decisions on what jobs below ask: passed down to the holon, or the part here, behind which a job waits for one."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import orjson

from holon.domain.children import is_nodes_own
from holon.domain.event_types import APPROVAL_REQUESTED, APPROVAL_RESOLVED, APPROVAL_TIMED_OUT
from holon.domain.events import WORKER_EVENT, HistoryEvent
from holon.domain.holarchy import MAX_DEPTH
from holon.domain.value import Value
from holon.engine.records import Records
from holon.errors import AlreadyExists, FailedPrecondition, HolonError, Unavailable
from holon.ports import JobRecord, Storage

# A holon waits for the one below it, so each has some time more than that.
_ANSWER_S = 2.0
_LEVEL_S = 1.0
_RETRY_S = 2.0
_PAUSES_S = (0.01, 0.05, 0.2, 0.5)
# The holon does not do that task under that lease.
NOT_HELD = "TASK_NOT_HELD"
_ASKED = f"{WORKER_EVENT}{APPROVAL_REQUESTED}"
_ANSWERED = (f"{WORKER_EVENT}{APPROVAL_RESOLVED}", f"{WORKER_EVENT}{APPROVAL_TIMED_OUT}")


class Decision(Value, gc=True):
    """What was decided of one question, and was checked as far as who does not ask it can.

    `data` is a JSON object as text; empty: nothing. `request_id` makes it repeatable; empty: it has none. `above` is
    the parent holon that passed it down here; empty: it was made here. `decided_at` is when, in epoch milliseconds.
    """

    approval_id: str
    decision: str
    by: str
    data: bytes
    comment: str
    request_id: str
    above: str
    decided_at: int


class PassedDown(Value, gc=True):
    """A decision for a holon below, and where the job is that waits for it.

    `command_id` names it on all of its way, and each time that it is sent. `job_ids` are from the job of the task down
    to the one that waits, `holon_ids` the holons on that way, the lowest first.
    """

    command_id: str
    task_id: str
    lease_id: str
    job_ids: tuple[str, ...]
    holon_ids: tuple[str, ...]
    decision: Decision


class _Outrun(Exception):
    """Something else has happened in between, and may be known in a moment; else this `error` says what to do."""

    def __init__(self, error: HolonError) -> None:
        super().__init__(error.message)
        self.error = error


class Decider(Protocol):
    """A linked holon below, which takes decisions for the jobs that do tasks of ours."""

    async def decide(self, passed: PassedDown, seconds: float) -> None:
        """Have a decision taken there, or further below; it is durable when this returns.

        Arguments:
            seconds: how long it may take.
        Raises:
            HolonError: it was not, as the holon says; Unavailable: that is not known, for there was no answer in time.
        """
        ...


class PassingDown:
    """Passes decisions down. It keeps nothing: who asks what is in the histories of the jobs above.

    Arguments:
        link: the holon that is linked here as this worker.
        take: takes a decision for a job that asks itself, by its id; with the decision's name on all of its way.
    """

    def __init__(
        self,
        store: Storage,
        records: Records,
        link: Callable[[str], Decider | None],
        take: Callable[[str, Decision, str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._records = records
        self._link = link
        self._take = take

    def __repr__(self) -> str:
        return "PassingDown()"

    async def resolve(self, record: JobRecord, decision: Decision) -> None:
        """Have a question decided that a job below this one asks, as it was told.

        Raises:
            FailedPrecondition: (APPROVAL_NOT_OPEN) none does, or it was answered already.
            AlreadyExists: (REQUEST_ID_REUSED) the request id named another decision.
            Unavailable: (HOLON_AWAY) the holon on the way to it is not there, or has not answered.
            HolonError: whatever the holon says that has the job.
        """
        command_id = _command_id(decision)
        for pause in (*_PAUSES_S, None):
            try:
                await self._resolve(record, decision, command_id)
            except _Outrun as outrun:
                # The task has gone on or ended meanwhile: what that had told before is about to be in the history.
                if pause is None:
                    raise outrun.error from None
                await asyncio.sleep(pause)
                record = await self._records.job(record.job.id) or record
            else:
                return

    async def _resolve(self, record: JobRecord, decision: Decision, command_id: str) -> None:
        asked, answer = await self._told(record, decision.approval_id)
        if asked is None:
            raise _not_open(record, decision, "nobody below has asked it")
        if answer is not None:
            _check_repeat(record, decision, command_id, answer)
            return
        job_ids, holon_ids = (tuple(asked.details.get(name, ())) for name in ("job_ids", "holon_ids"))
        if is_nodes_own(asked.worker_id or ""):
            await self._to_part(record, job_ids[0], decision, command_id)
            return
        task = await self._store.task(asked.task_id or "")
        if task is None or task.state == "over":
            over = _not_open(record, decision, "the task that asked it is over")
            # Only who comes again may have been the one that it was answered by.
            raise _Outrun(over) if decision.request_id else over
        link = self._link(task.worker_id) if task.worker_id else None
        if link is None:
            raise Unavailable(
                f"job {record.job.id}: question {decision.approval_id} is asked by a job below task {task.id}, whose "
                f"holon {'is away' if not task.worker_id else f'{task.worker_id!r} is not linked with this node'} now; "
                "try again once it is back",
                code="HOLON_AWAY",
                retry_after=_RETRY_S,
            )
        passed = PassedDown(command_id, task.id, task.lease_id, job_ids, holon_ids, decision)
        try:
            await link.decide(passed, _ANSWER_S + _LEVEL_S * min(len(job_ids), MAX_DEPTH))
        except Unavailable as error:
            if error.code != NOT_HELD:
                raise
            raise _Outrun(Unavailable(error.message, code="HOLON_AWAY", retry_after=_RETRY_S)) from None

    async def _to_part(self, record: JobRecord, part_id: str, decision: Decision, command_id: str) -> None:
        """The job that is a part of this one is in the same store: whatever node does it, it is decided from here."""
        part = await self._records.job(part_id)
        if part is None or part.job.parent_job_id != record.job.id:
            raise _not_open(record, decision, f"job {part_id}, which asked it, is no part of this job now")
        if decision.approval_id.startswith(f"{part_id}-"):
            await self._take(part_id, decision, command_id)
        else:
            await self._resolve(part, decision, command_id)

    async def _told(self, record: JobRecord, approval_id: str) -> tuple[HistoryEvent | None, HistoryEvent | None]:
        """How a question was told, and how it was told that it is closed, as far as they were; the newest count.

        It is that of the task which told of it first: what another one tells of it, whoever does that made up.
        """
        asked: HistoryEvent | None = None
        answer: HistoryEvent | None = None
        async for line in self._records.lines(record):
            if not (line.type == _ASKED or line.type in _ANSWERED) or _said(line).get("approval_id") != approval_id:
                continue
            if asked is not None and line.task_id != asked.task_id:
                continue
            asked, answer = (line, None) if line.type == _ASKED else (asked, line)
        return asked, answer


def _command_id(decision: Decision) -> str:
    """The same for each repeat of a request, on all of its way; and no other question's."""
    if decision.above:
        return decision.request_id
    if not decision.request_id:
        return secrets.token_hex(20)
    text = orjson.dumps((decision.approval_id, decision.request_id))
    return hashlib.blake2b(text, digest_size=20).hexdigest()


def _check_repeat(record: JobRecord, decision: Decision, command_id: str, answer: HistoryEvent) -> None:
    """Return where a question was decided by this request, as was told."""
    said = _said(answer)
    if said.get("request_id") != command_id:
        raise _not_open(record, decision, "it was answered, or its time is over")
    if said.get("decision") != decision.decision:
        raise AlreadyExists(
            f"request_id {decision.request_id!r} was used for another decision; choose a new one for each",
            code="REQUEST_ID_REUSED",
        )


def _said(line: HistoryEvent) -> dict[str, Any]:
    said: Any = line.details.get("payload")
    return said if isinstance(said, dict) else {}


def _not_open(record: JobRecord, decision: Decision, why: str) -> FailedPrecondition:
    message = f"job {record.job.id}: question {decision.approval_id[:128]!r} is not open: {why}"
    return FailedPrecondition(message, code="APPROVAL_NOT_OPEN")
