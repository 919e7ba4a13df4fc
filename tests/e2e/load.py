"""Load for tests of crashes: jobs as long as there is room for more, and the judgement of all that were accepted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.processes import Node, WorkLogs, until, work_log

GUARD = 120


class Load:
    """Jobs of one task each, made at nodes in turn.

    Arguments:
        folder: where the workers' logs are.
        workers: their names.
        seconds: how long a task takes, at least and at most.
        room: how many jobs may be accepted whose tasks have not ended.

    Attributes:
        accepted: the jobs, each with the number that it must echo.
        logs: how far the workers are.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[Node],
        workers: Sequence[str],
        chance: random.Random,
        *,
        seconds: tuple[float, float],
        room: int,
    ) -> None:
        self.accepted: dict[str, int] = {}
        self.logs = WorkLogs(folder, *workers)
        self._folder = folder
        self._nodes = nodes
        self._workers = workers
        self._chance = chance
        self._seconds = seconds
        self._room = room
        self._numbers = iter(range(1_000_000))
        self._enough = asyncio.Event()

    @asynccontextmanager
    async def made_by(self, clients: int) -> AsyncIterator[None]:
        """Make jobs while this is entered; when it is left, each that was begun has been accepted."""
        making = [asyncio.create_task(self._make(self._nodes[one % len(self._nodes)])) for one in range(clients)]
        try:
            yield
            self._enough.set()
            await asyncio.gather(*making)
        finally:
            for task in making:
                task.cancel()

    async def judged(self, node: Node) -> Counter[str]:
        """Wait until all have ended, and check that each did so once, with its own echo.

        Arguments:
            node: is asked what became of them.
        Returns:
            How often each task ended at a worker.
        """
        for job_id, n in self.accepted.items():
            job = await node.ended(job_id, GUARD)
            assert (job["status"], job["result"]) == ("finished", {"echo": n}), job
            events = await node.history(job_id)
            kinds = Counter(event["event_type"] for event in events)
            assert (kinds["job_completed"], kinds["task_finished"]) == (1, 1)
            assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        lines = (line for name in self._workers for line in work_log(self._folder, name))
        ended = Counter(line["task"] for line in lines if line["what"] == "end")
        assert {task.rsplit("-", 2)[0] for task in ended} == set(self.accepted)
        return ended

    async def _make(self, node: Node) -> None:
        while not self._enough.is_set():
            await until(self._has_room, "there is room for more", GUARD)
            n = next(self._numbers)
            data = {"n": n, "seconds": self._chance.uniform(*self._seconds)}
            self.accepted[await node.create("/jobs/echo", data)] = n

    def _has_room(self) -> bool:
        return self._enough.is_set() or len(self.accepted) - self.logs.ended < self._room


def again(ended: Counter[str]) -> str:
    """What `judged` counted, for people."""
    return f"{len(ended)} jobs, {ended.total() - len(ended)} tasks ran more than once"
