"""What is told of a job to the one above, of which it does a task: events of its history, and lines of its tasks' logs.

It is the same whether that job is in this node's store, or in a holon above.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import orjson

from holon.domain.event_types import MAX_EVENT_BYTES, OF_WAITS, payload_left_out
from holon.domain.events import HistoryEvent, Occurred, event_type_of
from holon.domain.log_bounds import MAX_FIELDS, left_out
from holon.domain.log_lines import FROM_JOB, FROM_TASK, PASSED, Logged, LogLine
from holon.domain.sending import as_object
from holon.domain.value import replace
from holon.engine.history_reader import AGAIN_S, HistoryReader, Page
from holon.engine.payloads import too_much
from holon.ports import JobRecord

# What goes up of what the job itself waits for, as lines of history call it, and as clients know it.
_OF_WAIT = {
    "approval_id": "approval_id",
    "message": "message",
    "integration": "integration",
    "decisions": "decisions",
    "until": "expires_at",
    "decision": "decision",
    "by": "by",
    "comment": "comment",
    "request_id": "request_id",
    "names": "names",
    "name": "name",
    "kept": "kept",
}


class Extent(NamedTuple):
    """How far a history goes: how many `lines` it has, and how many `events` these tell of."""

    lines: int = 0
    events: int = 0


def extent_of(record: JobRecord) -> Extent:
    """How far the history of a job goes, as it is now."""
    return Extent(record.sequence, record.job.events)


class EventsOfJob:
    """Tells of what happened in one job, in order. Its history has that, so nothing of it is lost with this node.

    An event has the same id however often it is told: all are told again after a restart, and under each new lease of
    the task, and the job above takes each once. What had moved out of the store before, and cannot be looked at just
    now, counts as told then: it nearly always was. What is known to be untold waits for that, but no end does.

    Arguments:
        holon_id: the holon that they pass on their way; empty: the job above is in this one.
        taken: says of which lines of the history the job above has heard, and is asked when the first are to be told
            under a lease; None: that is not known.
    """

    def __init__(
        self,
        reader: HistoryReader,
        job_id: str,
        holon_id: str = "",
        taken: Callable[[], Awaitable[AbstractSet[int]]] | None = None,
    ) -> None:
        self._reader = reader
        self._job_id = job_id
        self._holon_id = holon_id
        self._asked = taken
        self._taken: AbstractSet[int] = frozenset()
        self._lock = asyncio.Lock()
        self._lease_id = ""
        self._told = Extent()
        # Whether it is yet to be told what may have been told before.
        self._anew = True
        self._ends = asyncio.Event()

    def __repr__(self) -> str:
        return f"EventsOfJob({self._job_id}, told={self._told.events})"

    async def tell(
        self,
        task_id: str,
        lease_id: str,
        upto: Extent,
        put: Callable[[Sequence[Occurred]], Awaitable[None]],
        *,
        last: bool = False,
    ) -> None:
        """Tell of those that are not told yet, as events of this task.

        Arguments:
            upto: how far the history goes.
            put: is given some of them at a time.
            last: whether the job is over: its end is told next, and waits for no database.
        """
        if last:
            self.leave()
        async with self._lock:
            if self._lease_id != lease_id:
                if self._asked is not None:
                    self._taken = await self._asked()
                self._lease_id, self._told, self._anew = lease_id, Extent(), True
            while self._told.events < upto.events:
                after, events = self._told
                page = await self._reader.page(self._job_id, after, upto.lines, upto.events - events)
                if not (page.whole or self._anew or self._ends.is_set()):
                    await self._later()
                    continue
                self._told = await self._put(task_id, lease_id, page, put)
                if page.reached >= upto.lines:
                    self._told, self._anew = upto, False

    def leave(self) -> None:
        """Nobody waits for more than can be told just now."""
        self._ends.set()

    async def _later(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await self._ends.wait()

    async def _put(
        self, task_id: str, lease_id: str, page: Page, put: Callable[[Sequence[Occurred]], Awaitable[None]]
    ) -> Extent:
        """How far all is told then."""
        known, told = 0, list[Occurred]()
        for number, line in page.lines:
            event = event_above(task_id, lease_id, self._job_id, number, line, self._holon_id)
            known += event is not None
            if event is not None and number not in self._taken:
                told.append(event)
        if told:
            await put(told)
        return Extent(page.reached, self._told.events + known)


def event_above(
    task_id: str, lease_id: str, job_id: str, number: int, line: HistoryEvent, holon_id: str
) -> Occurred | None:
    """What a line of a job's history tells, as an event of the task that the job does; None: of no event.

    Arguments:
        number: the line's in the history.
        holon_id: as in `EventsOfJob`.
    """
    kind = event_type_of(line)
    if not kind:
        return None
    below = line.details
    said = _wait(line) if line.type in OF_WAITS else below.get("payload")
    return Occurred(
        task_id,
        lease_id,
        f"{job_id}-{number}",
        kind,
        _payload_above(as_object(said)),
        below.get("occurred", line.time),
        (*below.get("holon_ids", ()), *_passing(holon_id)),
        (job_id, *below.get("job_ids", ())),
        below.get("origin_worker_id") or line.worker_id or "",
    )


def _payload_above(said: dict[str, Any] | None) -> bytes:
    if said is None:
        return b""
    # Written as where its size was looked at when it was sent: other writers give numbers more digits.
    text = msgspec.json.encode(said)
    # What others sent may be longer as it is written here, and what was stored before nested deeper.
    why = too_much(text, MAX_EVENT_BYTES)
    return msgspec.json.encode(payload_left_out(why)) if why else text


def lines_above(logged: Logged, job_id: str, holon_id: str = "") -> tuple[LogLine, ...]:
    """Lines of a job's log as the job above is told them, each with the holons that it passed and who wrote it.

    Arguments:
        job_id: the job whose task wrote them, or had them written below.
        holon_id: as in `EventsOfJob`.
    """
    return tuple([_line_above(line, logged.task_id, job_id, holon_id) for line in logged.lines])


def _line_above(line: LogLine, task_id: str, job_id: str, holon_id: str) -> LogLine:
    fields: dict[str, Any] = orjson.loads(line.fields) if line.fields else {}
    below = fields.pop(PASSED, None)
    chain = {PASSED: [*(below or ()), *_passing(holon_id)]}
    if below is not None:
        origin = {name: fields.pop(name) for name in (FROM_JOB, FROM_TASK) if name in fields}
    else:
        origin = {FROM_JOB: job_id, FROM_TASK: task_id}
    text = orjson.dumps(fields | chain | origin)
    if len(text) > MAX_FIELDS:
        text = orjson.dumps(left_out(len(text)) | chain | origin)
    return replace(line, fields=text)


def _passing(holon_id: str) -> tuple[str, ...]:
    return (holon_id,) if holon_id else ()


def _wait(line: HistoryEvent) -> dict[str, Any]:
    """What a line of history says of what the job itself waits for."""
    return {told: line.details[name] for name, told in _OF_WAIT.items() if name in line.details}
