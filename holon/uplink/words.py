"""The uplink: the final word of a task, by what became of its job."""

from __future__ import annotations

from holon.domain.events import OUT_OF_TIME, HistoryEvent
from holon.domain.job import Status
from holon.domain.task import DEADLINE_EXCEEDED
from holon.ports import JobRecord
from holon.rxon.v1 import worker_pb2
from holon.uplink.delegation import Delegation
from holon.uplink.outcomes import passed_on, result_of
from holon.uplink.place import Place
from holon.uplink.stopping import Why
from holon.worker.outcome import CANCELLED, FAILURE, TRANSIENT_ERROR, cancelled, failure


class Words:
    """What the parent is told of tasks whose jobs are over, with what they cost."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __repr__(self) -> str:
        return f"Words({self._place.holon_id})"

    def at_once(self, record: JobRecord) -> worker_pb2.TaskResult | None:
        """Of a job that nobody has stopped; None where its history has to be looked at."""
        if record.job.status is Status.CANCELLED or self._place.offerings.passes(record.job.blueprint):
            return None
        return self._of(record)

    async def of(self, entry: Delegation, record: JobRecord | None, why: Why | None) -> worker_pb2.TaskResult:
        """Of any job.

        Arguments:
            record: None: there is no such job any more.
            why: it was stopped; None: the uplink did not.
        """
        if record is None:
            return failure(TRANSIENT_ERROR, f"job {entry.job_id} no longer exists in its holon")
        if record.job.status is Status.CANCELLED:
            if why is Why.DEADLINE or (why is None and await self._is_out_of_time(record)):
                return _costing(
                    failure(DEADLINE_EXCEEDED, "the task reached its time limit, so its job was cancelled"), record
                )
            if why is not None:
                return _costing(cancelled(), record)
        if self._place.offerings.passes(record.job.blueprint):
            result = passed_on(record.job, await self._lines(record))
            if result is not None:
                return _costing(result, record)
        return self._of(record)

    def _of(self, record: JobRecord) -> worker_pb2.TaskResult:
        return _costing(result_of(record, self._place.holon_id, self._place.offerings), record)

    async def _is_out_of_time(self, record: JobRecord) -> bool:
        """Whether a job was cancelled because its time is over, which it does itself too."""
        reached = 0
        while reached < record.sequence:
            page = await self._place.reader.page(record.job.id, reached, record.sequence)
            for _, line in page.lines:
                if line.type == "job_cancel_requested":
                    return line.details.get("by") == OUT_OF_TIME
            reached = page.reached
        return False

    async def _lines(self, record: JobRecord) -> list[HistoryEvent]:
        page = await self._place.reader.page(record.job.id, 0, record.sequence)
        return [line for _, line in page.lines]


def _costing(word: worker_pb2.TaskResult, record: JobRecord) -> worker_pb2.TaskResult:
    """With what nobody has reported yet: the parent is told once, and never hears of it later."""
    if record.spent is not None or word.status in (FAILURE, CANCELLED):
        # Else it is what the blueprint declares.
        word.cost = record.spent or 0
    return word
