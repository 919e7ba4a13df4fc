"""Children: which events of parts the history of the job above has already."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Set as AbstractSet

from holon.domain.children import is_nodes_own
from holon.domain.client import Client
from holon.domain.events import WORKER_EVENT
from holon.engine.jobs import Jobs
from holon.engine.told_above import page_of


class Taken:
    """Tells whoever begins anew to tell of a part, as after a restart.

    A job knows the events that came to it last, those of all of its parts together, and takes none of these twice. Of
    more than that each restart would otherwise add all once more, and at each level above that of all below it.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._one = asyncio.Lock()
        # The job whose history was read last, and when that began: its parts begin anew together.
        self._job_id = ""
        self._at = 0.0
        self._lines: defaultdict[str, set[int]] = defaultdict(set)

    def __repr__(self) -> str:
        return f"Taken({self._job_id}, tasks={len(self._lines)})"

    async def by(self, owner: Client, job_id: str, task_id: str, since: float) -> AbstractSet[int]:
        """Of which lines of a part's history a job has heard, by the task that the part does. To be asked once.

        Arguments:
            since: when that began anew, on the monotonic clock: what was read before that may be too old.
        """
        async with self._one:
            if self._job_id != job_id or self._at < since:
                self._lines.clear()
                self._job_id, at = "", time.monotonic()
                await self._read(owner, job_id)
                self._job_id, self._at = job_id, at
            return self._lines.pop(task_id, set())

    async def _read(self, owner: Client, job_id: str) -> None:
        token = ""
        while True:
            lines, token = await page_of(self._jobs, owner, job_id, token)
            for _, line in lines:
                if line.type.startswith(WORKER_EVENT) and line.task_id and is_nodes_own(line.worker_id or ""):
                    # As `EventsOfJob` names them.
                    number = str(line.details["event_id"]).rpartition("-")[2]
                    self._lines[line.task_id].add(int(number))
            if not token:
                return
