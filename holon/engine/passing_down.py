"""Decisions on what jobs below ask: passed down to the holon, or the part here, behind which a job waits for one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable

import orjson

from holon.domain.children import is_nodes_own
from holon.domain.event_types import APPROVAL_REQUESTED, APPROVAL_RESOLVED, APPROVAL_TIMED_OUT
from holon.domain.events import WORKER_EVENT, HistoryEvent
from holon.engine.records import Records
from holon.engine.ways_down import Decision, WaysDown, chain_of, said_below
from holon.errors import AlreadyExists, FailedPrecondition
from holon.ports import JobRecord

_ASKED = f"{WORKER_EVENT}{APPROVAL_REQUESTED}"
_ANSWERED = (f"{WORKER_EVENT}{APPROVAL_RESOLVED}", f"{WORKER_EVENT}{APPROVAL_TIMED_OUT}")


class PassingDown:
    """Passes decisions down. It keeps nothing: who asks what is in the histories of the jobs above.

    Arguments:
        ways: finds the holons below.
        take: takes a decision for a job that asks itself, by its id; with the decision's name on all of its way.
    """

    def __init__(self, records: Records, ways: WaysDown, take: Callable[[str, Decision, str], Awaitable[None]]) -> None:
        self._records = records
        self._ways = ways
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
        command_id = command_id_of(decision.approval_id, decision.request_id, decision.above)
        await self._ways.go(record, lambda known: self._resolve(known, decision, command_id))

    async def _resolve(self, record: JobRecord, decision: Decision, command_id: str) -> None:
        asked, answer = await self._told(record, decision.approval_id)
        if asked is None:
            raise _not_open(record, decision, "no job below has requested it")
        if answer is not None:
            _check_repeat(record, decision, command_id, answer)
            return
        if is_nodes_own(asked.worker_id or ""):
            await self._to_part(record, chain_of(asked)[0][0], decision, command_id)
            return
        over = _not_open(record, decision, "the task of the job that requested it has ended")
        await self._ways.to_holon(record, asked, decision, command_id, over)

    async def _to_part(self, record: JobRecord, part_id: str, decision: Decision, command_id: str) -> None:
        """The job that is a part of this one is in the same store: whatever node does it, it is decided from here."""
        part = await self._records.job(part_id)
        if part is None or part.job.parent_job_id != record.job.id:
            raise _not_open(record, decision, f"job {part_id}, which requested it, is no longer a child of this job")
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
        async for line in self._records.events(record):
            if (
                not (line.type == _ASKED or line.type in _ANSWERED)
                or said_below(line).get("approval_id") != approval_id
            ):
                continue
            if asked is not None and line.task_id != asked.task_id:
                continue
            asked, answer = (line, None) if line.type == _ASKED else (asked, line)
        return asked, answer


def command_id_of(what: str, request_id: str, above: str) -> str:
    """The name of what is brought down: the same for each repeat of a request, on all of its way, and no other's.

    Arguments:
        what: what the request is about, such as a question.
        above: the parent holon that has named it already; empty: nobody has.
    """
    if above:
        return request_id
    if not request_id:
        return secrets.token_hex(20)
    return hashlib.blake2b(orjson.dumps((what, request_id)), digest_size=20).hexdigest()


def _check_repeat(record: JobRecord, decision: Decision, command_id: str, answer: HistoryEvent) -> None:
    """Return where a question was decided by this request, as was told."""
    said = said_below(answer)
    if said.get("request_id") != command_id:
        raise _not_open(record, decision, "it was decided, or has expired")
    if said.get("decision") != decision.decision:
        raise AlreadyExists(
            f"request_id {decision.request_id!r} was used for another decision; use a new one for each",
            code="REQUEST_ID_REUSED",
        )


def _not_open(record: JobRecord, decision: Decision, why: str) -> FailedPrecondition:
    message = f"job {record.job.id}: approval {decision.approval_id[:128]!r} is not open: {why}"
    return FailedPrecondition(message, code="APPROVAL_NOT_OPEN")
