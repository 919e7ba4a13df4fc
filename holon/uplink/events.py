"""The uplink: events of jobs, passed on to the parent. Their history has them, so none is lost with this node."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from holon.domain.event_types import OF_QUESTIONS
from holon.domain.events import HistoryEvent, event_type_of
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.delegation import Delegation
from holon.uplink.lines import page_of
from holon.uplink.place import Place
from holon.wire.values import fill
from holon.worker.leases import Lease
from holon.worker.reports import Reports

# What goes up of a question, as lines of history call it, and as clients know it.
_OF_QUESTION = {
    "approval_id": "approval_id",
    "message": "message",
    "integration": "integration",
    "decisions": "decisions",
    "until": "expires_at",
    "decision": "decision",
    "by": "by",
    "comment": "comment",
    "request_id": "request_id",
}


class _Told:
    """What was told of the events of one job, under the lease that its task had."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.lease: Lease | None = None
        self.after = 0
        self.events = 0


class Events:
    """Tells the parent of what happened in its jobs, in order, as far as this holon discloses how they are done.

    An event has the same id however often it is told: all are told again after a restart, and under each new lease, and
    the parent takes each once.
    """

    def __init__(self, place: Place, reports: Reports) -> None:
        self._place = place
        self._reports = reports
        self._told: dict[str, _Told] = {}

    def __repr__(self) -> str:
        return f"Events(jobs={len(self._told)})"

    async def tell(self, entry: Delegation, events: int) -> None:
        """Tell of those that are not told yet.

        Arguments:
            events: how many lines of the job's history tell of one.
        """
        if not self._place.in_words:
            return
        told = self._told.setdefault(entry.job_id, _Told())
        async with told.lock:
            if told.lease != entry.lease:
                told.lease, told.after, told.events = entry.lease, 0, 0
            while told.events < events:
                lines, _ = await page_of(self._place.jobs, entry, str(told.after) if told.after else "")
                if not lines:
                    return
                for number, line in lines:
                    told.after = number
                    if (event := self._event_of(entry, number, line)) is not None:
                        told.events += 1
                        self._reports.event(entry.lease, event)

    def over(self, entry: Delegation) -> None:
        """Nobody waits for more of a job."""
        self._told.pop(entry.job_id, None)

    def _event_of(self, entry: Delegation, number: int, line: HistoryEvent) -> worker_pb2.Event | None:
        """What a line of a job's history tells; None: of no event."""
        kind = event_type_of(line)
        if not kind:
            return None
        below = line.details
        event = worker_pb2.Event(
            event_id=f"{entry.job_id}-{number}",
            type=kind,
            holon_ids=[*below.get("holon_ids", ()), self._place.holon_id],
            job_ids=[entry.job_id, *below.get("job_ids", ())],
        )
        fill(event.time, below.get("occurred", line.time))
        if self._place.names:
            event.origin_worker_id = below.get("origin_worker_id") or line.worker_id or ""
        if (said := _question(line) if line.type in OF_QUESTIONS else below.get("payload")) is not None:
            # What goes up is an object; a blueprint may say any value.
            payload = said if isinstance(said, dict) else {"value": said}
            event.payload.CopyFrom(types_pb2.Payload(data=orjson.dumps(payload)))
        return event


def _question(line: HistoryEvent) -> dict[str, Any]:
    """What a line of history says of what the job itself asks."""
    return {told: line.details[name] for name, told in _OF_QUESTION.items() if name in line.details}
