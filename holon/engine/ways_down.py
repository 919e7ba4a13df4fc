"""The ways down from a job to those below it, which do its tasks: by one of them goes what is brought to such a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from holon.domain.events import HistoryEvent
from holon.domain.holarchy import MAX_DEPTH
from holon.domain.signals import Signal
from holon.domain.value import Value
from holon.engine.records import Records
from holon.errors import HolonError, Unavailable
from holon.ports import JobRecord, Storage

# A holon waits for the one below it, so each has some time more than that.
_ANSWER_S = 2.0
_LEVEL_S = 1.0
_RETRY_S = 2.0
_PAUSES_S = (0.01, 0.05, 0.2, 0.5)
# The holon does not do that task under that lease.
NOT_HELD = "TASK_NOT_HELD"


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
    """A decision or a signal for a holon below, and where the job is that waits for it.

    `command_id` names it on all of its way, and each time that it is sent. `job_ids` are from the job of the task down
    to the one that waits, `holon_ids` the holons on that way, the lowest first.
    """

    command_id: str
    task_id: str
    lease_id: str
    job_ids: tuple[str, ...]
    holon_ids: tuple[str, ...]
    brought: Decision | Signal


class Outrun(Exception):
    """Something else has happened in between, and may be known in a moment; else this `error` says what to do."""

    def __init__(self, error: HolonError) -> None:
        super().__init__(error.message)
        self.error = error


class Decider(Protocol):
    """A linked holon below, which takes decisions and signals for the jobs that do tasks of ours."""

    async def decide(self, passed: PassedDown, seconds: float) -> None:
        """Have one taken there, or further below; it is durable when this returns.

        Arguments:
            seconds: how long it may take.
        Raises:
            HolonError: it was not, as the holon says; Unavailable: that is not known, for there was no answer in time.
        """
        ...


class WaysDown:
    """Finds the holon behind which a job below is. It keeps nothing: that is in the histories of the jobs above.

    Arguments:
        link: the holon that is linked here as this worker.
    """

    def __init__(self, store: Storage, records: Records, link: Callable[[str], Decider | None]) -> None:
        self._store = store
        self._records = records
        self._link = link

    def __repr__(self) -> str:
        return "WaysDown()"

    async def go(self, record: JobRecord, bring: Callable[[JobRecord], Awaitable[None]]) -> None:
        """Bring something below a job, again where it was outrun: a task that has gone on or ended meanwhile has told
        before what is about to be in the history.

        Raises:
            HolonError: whatever `bring` raises, or what it was outrun with at last.
        """
        for pause in (*_PAUSES_S, None):
            try:
                await bring(record)
            except Outrun as outrun:
                if pause is None:
                    raise outrun.error from None
                await asyncio.sleep(pause)
                record = await self._records.job(record.job.id) or record
            else:
                return

    async def to_holon(
        self, record: JobRecord, told: HistoryEvent, brought: Decision | Signal, command_id: str, over: HolonError
    ) -> None:
        """Bring it to the holon that does a task of this job.

        Arguments:
            told: what that said of who waits, in this job's history.
            over: why it cannot be brought where the task is over; who comes again may be told otherwise in a moment.
        Raises:
            Outrun: the task is over, or the holon does it no more.
            Unavailable: (HOLON_AWAY) the holon is not there, or has not answered.
            HolonError: whatever the holon says that has the job.
        """
        task = await self._store.task(told.task_id or "")
        if task is None or task.state == "over":
            raise Outrun(over) if brought.request_id else over
        link = self._link(task.worker_id) if task.worker_id else None
        if link is None:
            where = "is not connected" if not task.worker_id else f"{task.worker_id!r} is not linked to this node"
            raise Unavailable(
                f"job {record.job.id}: it is for a job below task {task.id}, whose holon {where} now; retry when it "
                "is back",
                code="HOLON_AWAY",
                retry_after=_RETRY_S,
            )
        job_ids, holon_ids = chain_of(told)
        passed = PassedDown(command_id, task.id, task.lease_id, job_ids, holon_ids, brought)
        try:
            await link.decide(passed, _ANSWER_S + _LEVEL_S * min(len(job_ids), MAX_DEPTH))
        except Unavailable as error:
            if error.code != NOT_HELD:
                raise
            raise Outrun(Unavailable(error.message, code="HOLON_AWAY", retry_after=_RETRY_S)) from None


def chain_of(told: HistoryEvent) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The jobs from that of a task down to the one that told this, and the holons on the way."""
    return tuple(told.details.get("job_ids", ())), tuple(told.details.get("holon_ids", ()))


def said_below(told: HistoryEvent) -> dict[str, Any]:
    """What comes with an event of a job below; empty where that is no object."""
    said: Any = told.details.get("payload")
    return said if isinstance(said, dict) else {}
