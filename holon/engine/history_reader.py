"""Histories of jobs, for what tells of them above: it waits for the store, but for the database only a moment.

What is still to be told of a job is nearly always in the store. The database of history is asked where that lacks lines
that matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

from holon.domain.events import HistoryEvent, tells_event
from holon.domain.value import Value
from holon.engine.lines import page_of_lines
from holon.errors import HolonError, SealBroken, StoreUnavailable
from holon.ports import HistoryStorage, Reads
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# So many lines of a job's history are looked at together: all of those of a job of one task.
LINES = 1_000
# So many ask the database at the same time, and each waits for it for so many seconds.
ASKED_AT_ONCE = 4
PATIENCE_S = 2.0
# One that is away is not asked again for so many seconds.
AGAIN_S = 1.0

T = TypeVar("T")
Line: TypeAlias = tuple[int, HistoryEvent]
_Read: TypeAlias = Callable[[str, int, int], Awaitable[Sequence[Line]]]


class Page(Value, gc=True):
    """Lines of a history with their numbers, oldest first.

    Attributes:
        reached: the number up to which they go.
        whole: whether none is missing that was wanted, but what cannot be opened.
    """

    lines: Sequence[Line]
    reached: int
    whole: bool


class HistoryReader:
    """Reads the histories of jobs, whoever owns them.

    Arguments:
        history: the database of history; None: there is none.
    """

    def __init__(self, store: Reads, history: HistoryStorage | None) -> None:
        self._store = store
        self._history = history
        self._turn = asyncio.Semaphore(ASKED_AT_ONCE)
        # Until when, on the loop's clock, the database counts as away.
        self._away_until = 0.0
        self._away = Seldom(log)

    def __repr__(self) -> str:
        return f"HistoryReader({self._history!r})"

    async def page(self, job_id: str, after: int, upto: int, events: int | None = None) -> Page:
        """Lines of a job's history. What cannot be opened is passed over; a store that is away is waited for.

        Arguments:
            after: the number after which they begin.
            upto: the number of the last that is wanted.
            events: how many lines between tell of events, where no others are wanted; None: all are.
        """
        lines, reached = await self._stored(job_id, after, upto)
        missing = len(lines) < reached - after
        if missing and events is not None and reached == upto:
            missing = sum(tells_event(line) for _, line in lines) < events
        if not missing or self._history is None:
            return Page(lines, reached, whole=True)
        # What moves is in the database before it leaves the store: whatever was not there a moment ago is here.
        moved = await self._moved(self._history, job_id, after, upto)
        if moved is None:
            return Page(lines, reached, whole=False)
        older, end = moved
        reached = min(reached, end)
        found = sorted((dict(older) | dict(lines)).items())
        return Page([line for line in found if line[0] <= reached], reached, whole=True)

    async def newest(self, job_id: str) -> int:
        """The number of the newest line of a job's history; 0: the store does not have it, or cannot open it."""
        try:
            record = await self._waiting(job_id, lambda: self._store.job(job_id))
        except SealBroken:
            return 0
        return 0 if record is None else record.sequence

    async def _stored(self, job_id: str, after: int, upto: int) -> tuple[list[Line], int]:
        return await self._waiting(job_id, lambda: _page(self._store.history, job_id, after, upto))

    async def _waiting(self, job_id: str, read: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await read()
            except SealBroken:
                raise
            except StoreUnavailable as error:
                self._away.warn("the history of job %s is read later", job_id, why=error.message, job_id=job_id)
                await asyncio.sleep(error.again_after)

    async def _moved(
        self, history: HistoryStorage, job_id: str, after: int, upto: int
    ) -> tuple[list[Line], int] | None:
        """None: the database is away."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            if clock() < self._away_until:
                return None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await _page(history.history, job_id, after, upto)
            except TimeoutError:
                why = f"the history database did not answer within {PATIENCE_S:g} s"
            except HolonError as error:
                why = error.message
            self._away_until = clock() + AGAIN_S
        self._away.warn("the moved history of job %s is left out", job_id, why=why, job_id=job_id)
        return None


async def _page(read: _Read, job_id: str, after: int, upto: int) -> tuple[list[Line], int]:
    """Lines of one place, and the number up to which they go."""

    async def some(last: Line | None, limit: int) -> Sequence[Line]:
        return await _opened(read, job_id, after if last is None else last[0], limit, upto)

    lines, more = await page_of_lines(some, lambda line: line[1], LINES)
    reached = min(lines[-1][0], upto) if more else upto
    return [line for line in lines if line[0] <= reached], reached


async def _opened(read: _Read, job_id: str, after: int, limit: int, upto: int) -> list[Line]:
    """So many lines, or all that there are up to one; without those that cannot be opened."""
    lines: list[Line] = []
    at_once = limit
    while len(lines) < limit and after < upto:
        try:
            some = await read(job_id, after, at_once)
        except SealBroken:
            # With fewer at a time it is found which line that is.
            if at_once == 1:
                after += 1
            at_once = max(1, at_once // 2)
            continue
        lines += some
        if len(some) < at_once:
            break
        after = some[-1][0]
        at_once = min(2 * at_once, limit - len(lines))
    return lines
