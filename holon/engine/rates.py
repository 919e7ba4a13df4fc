"""Rate limits: how many calls of a client or a worker one window takes, counted in the store for all nodes at once.

Who calls is known by its name, never by its address. Calls of one moment are counted together. While the store does not
count, every call goes on, and it is noted that it did so uncounted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from enum import Enum

from holon.domain.value import Value, replace
from holon.errors import ResourceExhausted, StoreUnavailable, invalid
from holon.ports import Count, Counted, Storage
from holon.telemetry.metrics import RateMetrics

log = logging.getLogger(__name__)

# So many calls are counted together, and so many wait for that; a call waits so long at most (seconds).
MAX_FLIGHT = 256
MAX_WAITING = 10_000
PATIENCE_S = 0.25


class Call(Enum):
    """What is counted: who calls, and in which way."""

    HTTP = ("client", "http")
    GRPC = ("client", "grpc")
    FRAME = ("worker", "frame")
    HEARTBEAT = ("worker", "heartbeat")
    OPENING = ("worker", "opening")


class Rates(Value):
    """How many calls a window of `period` milliseconds takes: of a client, by whatever door; and of a worker.

    `limit` is that of each, without what keeps a worker there: its heartbeats, and apart from them the sessions that it
    opens and the tokens that it exchanges have `heartbeats`.
    """

    limit: int = 100
    heartbeats: int = 120
    period: int = 60_000


class RateLimits:
    """Lets calls pass as far as their windows take them.

    Arguments:
        store: where they are counted.
    """

    def __init__(self, store: Storage, rates: Rates) -> None:
        self.metrics = RateMetrics()
        self._store = store
        self._rates = rates
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Count, asyncio.Future[Counted | None]]] = deque()
        self._some = asyncio.Event()
        # Since when the store has been counting; never, when it is not asked to.
        self._since = math.inf

    def __repr__(self) -> str:
        return f"RateLimits({self._rates}, waiting={len(self._waiting)})"

    async def admit(self, call: Call, name: str) -> None:
        """Return when a call may go on. On cancel it may have been counted.

        Arguments:
            name: who calls: a client's name, or a worker's id.
        Raises:
            ResourceExhausted: (RATE_LIMITED) its window is full; `retry_after` says when the next begins.
        """
        await self._admit(call, self._item(call, name))

    async def admit_batch(self, call: Call, name: str, jobs: int) -> None:
        """Return when a call that makes so many jobs may go on; `admit` has counted one of them.

        Raises:
            ResourceExhausted: (RATE_LIMITED) the window has no room for all of them; none was counted here.
            InvalidArgument: no window ever has.
        """
        if jobs > self._rates.limit:
            raise invalid(
                "requests",
                f"has {jobs} jobs, which count as calls, but only {self._rates.limit} calls are allowed in "
                f"{self._rates.period / 1000:g} s (RATE_LIMIT_LIMIT); send smaller batches",
            )
        if jobs > 1:
            item = self._item(call, name)
            await self._admit(call, replace(item, n=jobs - 1))

    async def _admit(self, call: Call, item: Count) -> None:
        identifier, path = call.value
        counted = await self._counted(item)
        if counted is None:
            self.metrics.uncounted.add(identifier, path)
        elif not counted.granted:
            self.metrics.blocked.add(identifier, path)
            raise self._too_many(call, item, counted)

    def _item(self, call: Call, name: str) -> Count:
        rates = self._rates
        if call is Call.HEARTBEAT:
            return Count(f"heartbeat:{name}", 1, rates.heartbeats, rates.period)
        if call is Call.OPENING:
            return Count(f"opening:{name}", 1, rates.heartbeats, rates.period)
        return Count(f"{call.value[0]}:{name}", 1, rates.limit, rates.period)

    async def _counted(self, item: Count) -> Counted | None:
        if self._loop.time() - self._since > PATIENCE_S or len(self._waiting) >= MAX_WAITING:
            return None
        promise: asyncio.Future[Counted | None] = self._loop.create_future()
        self._waiting.append((item, promise))
        self._some.set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await promise
        except TimeoutError:
            return None

    def _too_many(self, call: Call, item: Count, counted: Counted) -> ResourceExhausted:
        message, seconds = "Too Many Requests", counted.retry_after_ms / 1000
        if call is not Call.HTTP:
            left = f"only {counted.remaining} are left" if counted.remaining else "they are used up"
            message += f": the limit is {item.limit} in {item.period_ms / 1000:g} s, and {left}; retry in {seconds:g} s"
        return ResourceExhausted(message, code="RATE_LIMITED", retry_after=seconds)

    async def run(self) -> None:
        """Have calls counted until cancelled; those that then wait go on uncounted."""
        flight: Sequence[tuple[Count, asyncio.Future[Counted | None]]] = ()
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                # What else this moment brings is counted with it.
                await asyncio.sleep(0)
                while self._waiting:
                    flight = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_FLIGHT))]
                    await self._fly([one for one in flight if not one[1].done()])
                flight = ()
        finally:
            _tell((*flight, *self._waiting), ())

    async def _fly(self, flight: Sequence[tuple[Count, asyncio.Future[Counted | None]]]) -> None:
        if not flight:
            return
        self._since = self._loop.time()
        answers: Sequence[Counted] = ()
        try:
            answers = await self._store.count([item for item, _ in flight])
        except StoreUnavailable as error:
            log.debug("%d calls are not counted: %s", len(flight), error.message)
        finally:
            self._since = math.inf
        _tell(flight, answers)


def _tell(flight: Sequence[tuple[Count, asyncio.Future[Counted | None]]], answers: Sequence[Counted]) -> None:
    """Give each its answer; where there are none, that it was not counted."""
    told = answers or (None,) * len(flight)
    for (_, promise), counted in zip(flight, told, strict=True):
        if not promise.done():
            promise.set_result(counted)
