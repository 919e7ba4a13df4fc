"""Children: which events of parts the histories of the jobs above have already."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Set as AbstractSet

from holon.domain.children import is_nodes_own
from holon.domain.events import WORKER_EVENT
from holon.engine.history_reader import HistoryReader

# So many jobs above are kept of those that nobody asks about just now, and so many lines of all of them but the last.
MOST_JOBS = 16
MOST_LINES = 100_000
# So many histories are read at the same time.
READ_AT_ONCE = 4


class _Heard:
    """What the history of one job tells: of which lines of each part's, by the task that the part does.

    Attributes:
        at: when its reading began, on the monotonic clock.
        count: of how many lines it was then.
        asking: how many ask about it now.
    """

    __slots__ = ("asking", "at", "count", "lines", "one")

    def __init__(self) -> None:
        self.lines: defaultdict[str, set[int]] = defaultdict(set)
        self.at = float("-inf")
        self.count = self.asking = 0
        self.one = asyncio.Lock()


class Taken:
    """Tells whoever begins anew to tell of a part, as after a restart.

    A job knows the events that came to it last, those of all of its parts together, and takes none of these twice. Of
    more than that each restart would otherwise add all once more, and at each level above that of all below it. What
    its history cannot tell just now, for it cannot be opened or the database that has it is away, is left to that.
    """

    def __init__(self, reader: HistoryReader) -> None:
        self._reader = reader
        self._turn = asyncio.Semaphore(READ_AT_ONCE)
        # Jobs above that are asked about now; and the others, those that were asked about last at the end.
        self._asked: dict[str, _Heard] = {}
        self._idle: OrderedDict[str, _Heard] = OrderedDict()
        # How many lines the idle ones are of.
        self._lines = 0

    def __repr__(self) -> str:
        return f"Taken(asked={len(self._asked)}, idle={len(self._idle)})"

    async def by(self, job_id: str, task_id: str, since: float) -> AbstractSet[int]:
        """Of which lines of a part's history a job has heard, by the task that the part does. To be asked once.

        Arguments:
            job_id: the job above.
            since: when that began anew, on the monotonic clock: what was read before that may be too old.
        """
        heard = self._begin(job_id)
        try:
            async with heard.one:
                if heard.at < since:
                    async with self._turn:
                        await self._read(job_id, heard)
                return heard.lines.pop(task_id, frozenset())
        finally:
            self._end(job_id, heard)

    def _begin(self, job_id: str) -> _Heard:
        heard = self._asked.get(job_id)
        if heard is None:
            # Its parts begin anew together, and so do those of others.
            heard = self._idle.pop(job_id, None)
            self._lines -= 0 if heard is None else heard.count
            heard = self._asked[job_id] = heard or _Heard()
        heard.asking += 1
        return heard

    def _end(self, job_id: str, heard: _Heard) -> None:
        heard.asking -= 1
        if heard.asking:
            return
        self._idle[job_id] = self._asked.pop(job_id)
        self._lines += heard.count
        while len(self._idle) > MOST_JOBS or (self._lines > MOST_LINES and len(self._idle) > 1):
            self._lines -= self._idle.popitem(last=False)[1].count

    async def _read(self, job_id: str, heard: _Heard) -> None:
        heard.lines.clear()
        heard.count, heard.at, at = 0, float("-inf"), time.monotonic()
        reached, upto = 0, await self._reader.newest(job_id)
        while reached < upto:
            page = await self._reader.page(job_id, reached, upto)
            for _, line in page.lines:
                if line.type.startswith(WORKER_EVENT) and line.task_id and is_nodes_own(line.worker_id or ""):
                    # As `EventsOfJob` names them.
                    number = str(line.details["event_id"]).rpartition("-")[2]
                    heard.lines[line.task_id].add(int(number))
                    heard.count += 1
            reached = page.reached
        heard.at = at
