"""Jobs of which somebody is to be told, as a store has them; and who is told, as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from holon.clock import ManualClock
from holon.domain.events import WORKER_EVENT, HistoryEvent, tells_event
from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.engine.page_tokens import PageTokens
from holon.engine.records import Records
from holon.engine.webhooks import Webhooks
from holon.errors import StoreUnavailable
from holon.ports import Answer, Ends, Happened, Heard, Hint, JobRecord, Reads, Storage
from holon.storage.ends import EndsToTell, EventsToTell

GUARD = 10.0
DAY = 86_400_000
TOLD = Answer(Heard.TOLD)
FAILED = Answer(Heard.REFUSED, "the receiver answered with status 500")


class Ended:
    """A store of which nothing is used but what it has to tell; `away` says that it does not answer."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.away = False
        self.taken = self.unheard = 0
        self.settled: list[tuple[list[str], list[tuple[str, int]]]] = []
        self.left = asyncio.Event()
        # By job, the last lines that were settled of its events, and after how long the rest is due.
        self.heard: dict[str, list[tuple[int, int]]] = {}
        self.unreadable: set[str] = set()
        self._ends = EndsToTell()
        self._events = EventsToTell()
        self._lines: dict[str, list[HistoryEvent]] = {}
        self._jobs: dict[str, JobRecord] = {}
        # Jobs whose ends are to be told still, and by job the line of the last event that is.
        self._open: set[str] = set()
        self._untold: dict[str, int] = {}
        self._hear: list[Callable[[Hint], None]] = []

    def now(self) -> int:
        return self.clock.now_ms()

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        self._hear.append(told)
        return lambda: self._hear.remove(told)

    def poke(self) -> None:
        for told in self._hear:
            told(Hint(ends=True, events=True))

    def pass_by(self, ms: int) -> None:
        self.clock.advance(ms)
        self.poke()

    def end(self, job_id: str, url: str = "https://a.example/x", owner: str = "ann", ago: int = 0) -> None:
        job = Job(job_id, "flow", owner, {}, "end", Status.FINISHED, result={"id": job_id}, webhook=url)
        now = self.now()
        lines = self._lines.get(job_id, [])
        self._jobs[job_id] = JobRecord(job, now - ago, now, now - ago, None, "", sequence=len(lines))
        self._ends.put(job_id, now)
        self._open.add(job_id)
        self.poke()

    def happen(
        self, job_id: str, *kinds: str, url: str = "https://a.example/x", owner: str = "ann", ago: int = 0
    ) -> None:
        """A job goes on by a step whose history has lines of these types; of a worker's event where that is all."""
        lines, now = self._lines.setdefault(job_id, []), self.now()
        before = len(lines)
        for kind in kinds:
            told = kind if "_" in kind else WORKER_EVENT + kind
            details = {"payload": {"n": len(lines)}}
            lines.append(HistoryEvent(told, now - ago, "start", task_id="t", details=details))
        job = Job(job_id, "flow", owner, {}, "start", Status.RUNNING, webhook=url)
        known = self._jobs.get(job_id) or JobRecord(job, now, now, None, None, "")
        self._jobs[job_id] = replace(known, sequence=len(lines))
        last = max(n for n, line in enumerate(lines, 1) if tells_event(line))
        self._events.happened(job_id, before, last, now)
        self._untold[job_id] = last
        self.poke()

    @property
    def open(self) -> list[str]:
        """Those whose end is to be told still."""
        return [job_id for job_id in self._jobs if job_id in self._open]

    @property
    def untold(self) -> list[str]:
        """Those of which events are to be told still."""
        return [job_id for job_id in self._jobs if job_id in self._untold]

    async def take_ends(self, limit: int, hold: int) -> Ends:
        assert limit > 0
        self.taken += 1
        self._check()
        page = [self._jobs[job_id] for job_id in self._ends.take(self.now(), limit)]
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
            self._open.discard(job_id)
        for job_id, after in again:
            self._ends.put(job_id, self.now() + after)
        self.left.set()

    async def take_events(self, limit: int, hold: int) -> Happened:
        self._check()
        taken = self._events.take(self.now(), limit)
        page = [(self._jobs[job_id], self._events.after(job_id)) for job_id in taken]
        happened = Happened(tuple(page), self._events.next_due())
        for record, _ in page:
            self._events.put(record.job.id, self.now() + hold)
        return happened

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        self._check()
        for job_id, through, after in heard:
            self.heard.setdefault(job_id, []).append((through, after))
            self._events.heard(job_id, through, self.now() + after)
            if through >= self._untold.get(job_id, 0):
                self._untold.pop(job_id, None)
        self.left.set()

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        if job_id in self.unreadable:
            self.left.set()
            raise StoreUnavailable("it does not open")
        return list(enumerate(self._lines[job_id], 1))[after:][:limit]

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
    """Who is told. A host in `slow` does not answer before `go_on`; others say what `answers` has for it."""

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

    @property
    def ids(self) -> list[str]:
        return [name for _, name, _ in self.sent]

    async def send(self, url: str, message_id: str, body: bytes) -> Answer:
        told = orjson.loads(body)
        self.sent.append((url, message_id, told))
        self.now += 1
        self.most = max(self.most, self.now)
        self.some.set()
        try:
            if url.split("/")[2] in self.slow:
                await self.go_on.wait()
            answers = self.answers.get(message_id) or self.answers.get(told["job_id"], [])
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
    webhooks = Webhooks(cast(Storage, store), Records(cast(Reads, store), None, PageTokens()), told, give_up)
    running = asyncio.create_task(webhooks.run())
    try:
        yield webhooks
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
