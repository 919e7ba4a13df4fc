"""Jobs that are over and to be told of, as a store has them; and who is told, as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from holon.clock import ManualClock
from holon.domain.job import Job, Status
from holon.engine.webhooks import Webhooks
from holon.errors import StoreUnavailable
from holon.ports import Answer, Ends, Heard, Hint, JobRecord, Storage
from holon.storage.ends import EndsToTell

GUARD = 10.0
DAY = 86_400_000
TOLD = Answer(Heard.TOLD)
FAILED = Answer(Heard.REFUSED, "it answered with the status 500")


class Ended:
    """A store of which nothing is used but its ends; `away` says that it does not answer."""

    spread = 0

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.away = False
        self.taken = self.unheard = 0
        self.settled: list[tuple[list[str], list[tuple[str, int]]]] = []
        self.left = asyncio.Event()
        self._ends = EndsToTell()
        self._jobs: dict[str, JobRecord] = {}
        self._hear: list[Callable[[Hint], None]] = []

    def now(self) -> int:
        return self.clock.now_ms()

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        self._hear.append(told)
        return lambda: self._hear.remove(told)

    def poke(self) -> None:
        for told in self._hear:
            told(Hint(ends=True))

    def pass_by(self, ms: int) -> None:
        self.clock.advance(ms)
        self.poke()

    def end(self, job_id: str, url: str = "https://a.example/x", owner: str = "ann", ago: int = 0) -> None:
        job = Job(job_id, "flow", owner, {}, "end", Status.FINISHED, result={"id": job_id}, webhook=url)
        now = self.now()
        self._jobs[job_id] = JobRecord(job, now - ago, now, now - ago, None, "")
        self._ends.put(job_id, now)
        self.poke()

    @property
    def open(self) -> list[str]:
        """Those that are to be told of still."""
        return [job_id for job_id in self._jobs if job_id in self._ends]

    async def take_ends(self, limit: int, hold: int) -> Ends:
        assert limit > 0
        self.taken += 1
        self._check()
        page: list[JobRecord] = []
        for job_id in self._ends.due(self.now()):
            if len(page) == limit:
                break
            page.append(self._jobs[job_id])
            self._ends.forget(job_id)
        ends = Ends(tuple(page), self._ends.next_due())
        for record in page:
            self._ends.put(record.job.id, self.now() + hold)
        return ends

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]] = ()) -> None:
        self.unheard += self.away
        self._check()
        self.settled.append((list(told), list(again)))
        for job_id in told:
            self._ends.forget(job_id)
        for job_id, after in again:
            self._ends.put(job_id, self.now() + after)
        self.left.set()

    def _check(self) -> None:
        if self.away:
            self.left.set()
            raise StoreUnavailable("the store is away", retry_after=0.01)

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until something is so, after what is told to this store."""
        async with asyncio.timeout(GUARD):
            while not true():
                self.left.clear()
                await self.left.wait()


class Told:
    """Who is told. A host in `slow` does not answer before `go_on`; others answer what `answers` has for a job."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []
        self.answers: dict[str, list[Answer | Exception]] = {}
        self.slow: set[str] = set()
        self.go_on = asyncio.Event()
        self.now = 0
        self.most = 0
        self.some = asyncio.Event()

    @property
    def jobs(self) -> list[str]:
        return [body["job_id"] for _, _, body in self.sent]

    async def send(self, url: str, message_id: str, body: bytes) -> Answer:
        told = orjson.loads(body)
        self.sent.append((url, message_id, told))
        self.now += 1
        self.most = max(self.most, self.now)
        self.some.set()
        try:
            if url.split("/")[2] in self.slow:
                await self.go_on.wait()
            answers = self.answers.get(told["job_id"], [])
            answer = answers.pop(0) if answers else TOLD
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.now -= 1

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until something is so, after something is sent."""
        async with asyncio.timeout(GUARD):
            while not true():
                self.some.clear()
                await self.some.wait()


@asynccontextmanager
async def telling(store: Ended, told: Told | None, give_up: int = DAY) -> AsyncIterator[Webhooks]:
    """Webhooks that run; what they have in hand at the end is handed back."""
    webhooks = Webhooks(cast(Storage, store), told, give_up)
    running = asyncio.create_task(webhooks.run())
    try:
        yield webhooks
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
