"""The uplink: events of the parent's jobs, passed on to the parent."""

from __future__ import annotations

from collections.abc import Sequence

from holon.domain.events import Occurred
from holon.domain.value import replace
from holon.engine.told_above import EventsOfJob, Extent
from holon.uplink.delegation import Delegation
from holon.uplink.place import Place
from holon.wire.events import event_message
from holon.worker.reports import Reports


class Events:
    """Tells the parent of what happened in its jobs, in order, as far as this holon discloses how they are done."""

    def __init__(self, place: Place, reports: Reports) -> None:
        self._place = place
        self._reports = reports
        self._told: dict[str, EventsOfJob] = {}

    def __repr__(self) -> str:
        return f"Events(jobs={len(self._told)})"

    async def tell(self, entry: Delegation, upto: Extent, *, last: bool = False) -> None:
        """Tell of those that are not told yet; as many at a time as the parent takes, see `Reports.room`.

        Arguments:
            upto: how far the job's history goes.
            last: whether the job is over, see `EventsOfJob.tell`.
        """
        place = self._place
        if not place.in_words:
            return
        told = self._told.get(entry.job_id)
        if told is None:
            told = self._told[entry.job_id] = EventsOfJob(place.reader, entry.job_id, place.holon_id)
        lease = entry.lease

        async def put(some: Sequence[Occurred]) -> None:
            for one in some:
                await self._reports.room(lease)
                shown = one if place.names else replace(one, origin_worker_id="")
                self._reports.event(lease, event_message(shown))

        await told.tell(lease.task_id, lease.lease_id, upto, put, last=last)

    def over(self, entry: Delegation) -> None:
        """Nobody waits for more of a job."""
        if (told := self._told.pop(entry.job_id, None)) is not None:
            told.leave()
