"""Signals for jobs below: passed down to the holon, or the part here, behind which a job has said that it waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from holon.domain.children import is_nodes_own
from holon.domain.event_types import SIGNAL_AWAITED, SIGNAL_RECEIVED
from holon.domain.events import WORKER_EVENT, HistoryEvent
from holon.domain.signals import Signal
from holon.engine.job_errors import signal_reused
from holon.engine.passing_down import command_id_of
from holon.engine.records import Records
from holon.engine.ways_down import WaysDown, chain_of, said_below
from holon.errors import FailedPrecondition
from holon.ports import JobRecord

_AWAITED = f"{WORKER_EVENT}{SIGNAL_AWAITED}"
_RECEIVED = f"{WORKER_EVENT}{SIGNAL_RECEIVED}"


class PassingSignals:
    """Passes signals down. It keeps nothing: who has waited for one is in the histories of the jobs above.

    Arguments:
        ways: finds the holons below.
        take: takes a signal for a job of this store, by its id; with the signal's name on all of its way.
    """

    def __init__(self, records: Records, ways: WaysDown, take: Callable[[str, Signal, str], Awaitable[None]]) -> None:
        self._records = records
        self._ways = ways
        self._take = take

    def __repr__(self) -> str:
        return "PassingSignals()"

    async def send(self, record: JobRecord, to_job_id: str, signal: Signal) -> None:
        """Bring a signal to a job below this one, which has told that it waits for one; it may do no more.

        A repeat of one that was told to have come there is answered so, whatever has become of that job.

        Raises:
            FailedPrecondition: (SIGNAL_NOT_AWAITED) no job of this id has told that, or its task is over.
            AlreadyExists: (REQUEST_ID_REUSED) the request id named another signal.
            Unavailable: (HOLON_AWAY) the holon on the way to it is not there, or has not answered.
            HolonError: whatever the holon says that has the job.
        """
        command_id = command_id_of(to_job_id, signal.request_id, signal.above)
        await self._ways.go(record, lambda known: self._send(known, to_job_id, signal, command_id))

    async def _send(self, record: JobRecord, to_job_id: str, signal: Signal, command_id: str) -> None:
        told, came = await self._told(record, to_job_id, command_id)
        if told is None:
            raise _not_awaited(record, to_job_id, "no job below with this id has reported that it waits for a signal")
        if came is not None:
            if said_below(came).get("name") != signal.name:
                raise signal_reused(signal.request_id)
            return
        if not is_nodes_own(told.worker_id or ""):
            over = _not_awaited(record, to_job_id, "the task of that job has ended")
            await self._ways.to_holon(record, told, signal, command_id, over)
            return
        part_id = chain_of(told)[0][0]
        part = await self._records.job(part_id)
        if part is None or part.job.parent_job_id != record.job.id:
            raise _not_awaited(
                record, to_job_id, f"job {part_id}, which was above it, is no longer a child of this job"
            )
        if part_id == to_job_id:
            await self._take(part_id, signal, command_id)
        else:
            await self._send(part, to_job_id, signal, command_id)

    async def _told(
        self, record: JobRecord, to_job_id: str, command_id: str
    ) -> tuple[HistoryEvent | None, HistoryEvent | None]:
        """How a job below has told that it waits, and that this signal came, as far as it has; the newest lines.

        They are those of the task which told of it first: what another one tells of it, whoever does that made up.
        """
        awaits: HistoryEvent | None = None
        came: HistoryEvent | None = None
        async for line in self._records.events(record):
            if line.type not in (_AWAITED, _RECEIVED) or chain_of(line)[0][-1:] != (to_job_id,):
                continue
            if awaits is not None and line.task_id != awaits.task_id:
                continue
            if line.type == _AWAITED:
                awaits = line
            elif awaits is not None and said_below(line).get("request_id") == command_id:
                came = line
        return awaits, came


def _not_awaited(record: JobRecord, to_job_id: str, why: str) -> FailedPrecondition:
    message = f"job {record.job.id}: no signal can be sent to job {to_job_id[:128]!r}: {why}"
    return FailedPrecondition(message, code="SIGNAL_NOT_AWAITED")
