"""Load for tests of crashes: jobs as long as there is room for more, and the judgement of all that were accepted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.processes import LOOK_S, Node, WorkLogs, work_log

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
        self._room = asyncio.Semaphore(room)
        self._numbers = iter(range(1_000_000))
        self._enough = False

    @asynccontextmanager
    async def made_by(self, clients: int) -> AsyncIterator[None]:
        """Make jobs while this is entered; when it is left, each that was begun has been accepted."""
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow())
            making = [group.create_task(self._make(self._nodes[one % len(self._nodes)])) for one in range(clients)]
            yield
            self._enough = True
            self._leave(clients)
            await asyncio.wait(making)
            following.cancel()

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
            assert (kinds["job_completed"], kinds["task_finished"], kinds["blueprint_event:asked"]) == (1, 1, 1)
            assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        lines = (line for name in self._workers for line in work_log(self._folder, name))
        ended = Counter(line["task"] for line in lines if line["what"] == "end")
        assert {task.rsplit("-", 2)[0] for task in ended} == set(self.accepted)
        return ended

    async def _make(self, node: Node) -> None:
        while True:
            await self._room.acquire()
            if self._enough:
                return
            n = next(self._numbers)
            data = {"n": n, "seconds": self._chance.uniform(*self._seconds)}
            self.accepted[await node.create("/jobs/echo", data)] = n

    async def _follow(self) -> None:
        seen = 0
        while True:
            ended = self.logs.ended
            self._leave(ended - seen)
            seen = ended
            await asyncio.sleep(LOOK_S)

    def _leave(self, places: int) -> None:
        for _ in range(places):
            self._room.release()


def again(ended: Counter[str]) -> str:
    """What `judged` counted, for people."""
    return f"{len(ended)} jobs, {ended.total() - len(ended)} tasks ran more than once"
