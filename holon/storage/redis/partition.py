"""One partition of the store in Redis: what the engine asks of it, as calls of operations."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from holon.storage.redis.part_leases import LeaseCalls
from holon.storage.redis.part_records import RecordCalls
from holon.storage.redis.part_steps import StepCalls


class Partition(StepCalls, LeaseCalls, RecordCalls):
    """A part of the store that has all of a job and of its tasks, and knows nothing of the others; made as `Part`.

    Every operation is one call of a script, which does all of it or nothing; see `Storage`. Calls go over one
    connection, many at a time, in order. The time is its server's.
    """

    def __repr__(self) -> str:
        return f"Partition({self.number}, {self.link})"

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node; raises StoreUnavailable when it is away."""
        await self.link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        try:
            await self.link.__aexit__(kind, error, trace)
        finally:
            for timer in self._timers:
                timer.cancel()

    @property
    def away(self) -> bool:
        """Whether it did not answer when it was last asked."""
        return self.link.away

    @property
    def open(self) -> bool:
        """Whether it takes new jobs, as far as is known."""
        return not (self.link.away or self.link.full)

    @property
    def calls_waiting(self) -> int:
        """How many calls wait to be sent."""
        return self.link.waiting

    def hurry(self) -> None:
        """Refuse soon what a server that is away does not carry out."""
        self.link.hurry()

    async def failure(self) -> None:
        """Wait until it is closed; raises StoreUnavailable when it is lost for good."""
        await self.link.failure()

    def now(self) -> int:
        """Its server's time, epoch milliseconds."""
        return self.link.now()
