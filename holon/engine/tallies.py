"""What the histories of jobs amount to, as far as they were read: kept while their trees are turned page by page."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from holon.domain.tally import Tally
from holon.ports import JobRecord

ReadOn: TypeAlias = Callable[[Tally, JobRecord], Awaitable[None]]

# So many jobs, and so many tasks of all of them but the newest; and for so many seconds after the last page.
MOST_JOBS = 16
MOST_TASKS = 100_000
KEPT_S = 30.0


class Reading:
    """A job's history as far as it was read, by whoever asked for it.

    Attributes:
        tally: what it amounts to.
        asked: when somebody asked for it last, on the loop's clock.
    """

    __slots__ = ("_one_at_a_time", "_read_on", "asked", "tally")

    def __init__(self, job_id: str, read_on: ReadOn) -> None:
        self.tally = Tally(job_id)
        self.asked = 0.0
        self._read_on = read_on
        # Two who read the same lines would count them twice.
        self._one_at_a_time = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Reading({self.tally!r})"

    async def on(self, record: JobRecord) -> None:
        """Read on, up to what the job's record says at least; what was read before an error stays read."""
        async with self._one_at_a_time:
            await self._read_on(self.tally, record)


class Tallies:
    """Keeps the tallies of jobs that were asked for lately, so that a page reads only the lines since the page before.

    Arguments:
        read_on: has a tally take what was written since, up to what the job's record says.
    """

    def __init__(self, read_on: ReadOn) -> None:
        self._read_on = read_on
        self._kept: OrderedDict[str, Reading] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Tallies({len(self._kept)})"

    async def of(self, record: JobRecord) -> Reading:
        """What is known of a job, as new as its record; it goes on to grow while others ask for it.

        Raises what reading does.
        """
        job_id, loop = record.job.id, asyncio.get_running_loop()
        reading = self._kept.get(job_id)
        if reading is None:
            reading = self._kept[job_id] = Reading(job_id, self._read_on)
        self._kept.move_to_end(job_id)
        reading.asked = loop.time()
        if self._sweep is None:
            self._sweep = loop.call_later(KEPT_S, self._forget_old)
        await reading.on(record)
        self._make_room()
        return reading

    def _make_room(self) -> None:
        tasks = sum(len(one.tally) for one in self._kept.values())
        while len(self._kept) > MOST_JOBS or (tasks > MOST_TASKS and len(self._kept) > 1):
            _, oldest = self._kept.popitem(last=False)
            tasks -= len(oldest.tally)

    def _forget_old(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        while self._kept:
            oldest = next(iter(self._kept.values()))
            left = oldest.asked + KEPT_S - loop.time()
            if left > 0:
                self._sweep = loop.call_later(left, self._forget_old)
                return
            self._kept.popitem(last=False)
