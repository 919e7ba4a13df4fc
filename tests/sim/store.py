"""The simulator: a store that all processes share, behind a network that loses, delays and doubles calls."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from holon.errors import StoreUnavailable
from holon.stores.memory import MemoryRows
from holon.stores.port import (
    Batch,
    Change,
    Draw,
    Drawn,
    Found,
    Head,
    Record,
    RowKey,
    Word,
)

T = TypeVar("T")

# A call without an answer is given up after so long (seconds).
PATIENCE_S = 0.6


@dataclass
class Chances:
    """How often a call goes wrong: its request or its reply is lost, it comes late, or twice."""

    lost: float = 0.0
    late: float = 0.0
    twice: float = 0.0


@dataclass
class Server:
    """The store itself, and what it looked like a while ago.

    Attributes:
        wrong: what it saw that must never be.
        down_until: until when it answers nobody.
    """

    rows: MemoryRows
    dice: random.Random
    chances: Chances = field(default_factory=Chances)
    wrong: list[str] = field(default_factory=list)
    down_until: float = 0.0
    failovers: int = 0
    _batches: dict[tuple[str, int], Batch] = field(default_factory=dict)
    _replica: Any = None

    def replicate(self) -> None:
        """Its replica has everything up to now."""
        self._replica = copy.deepcopy(self.rows._shards)

    def fail_over(self) -> None:
        """The replica takes its place: what that did not have is gone."""
        if self._replica is not None:
            self.failovers += 1
            self.rows._shards = copy.deepcopy(self._replica)

    def do(self, call: Callable[[MemoryRows], Coroutine[Any, Any, T]]) -> T:
        """Carry out a call at once."""
        try:
            call(self.rows).send(None)
        except StopIteration as ended:
            answer: T = ended.value
            return answer
        raise AssertionError("the store waits")

    async def change(self, call: Coroutine[Any, Any, T]) -> T:
        """A change of an owner, which no failover loses: nobody could write again what the new owner wrote."""
        changed = await call
        if self._replica is not None:
            self.replicate()
        return changed

    async def apply(self, rows: MemoryRows, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        """Write batches, and look at them first."""
        for batch in batches:
            known = self._batches.setdefault((batch.token, batch.number), batch)
            if known != batch:
                self.wrong.append(f"two contents of batch {batch.number} of one owner: {known} and {batch}")
        return await rows.apply(batches)


class SimRows:
    """A process's way to the store.

    Arguments:
        outside: the context of what goes on though the process stands still.
    """

    exclusive = False
    objection = ""

    def __init__(self, server: Server, outside: Context) -> None:
        self._server = server
        self._outside = outside
        self.cut_until = 0.0
        self.id, self.shards, self.generation = server.rows.id, server.rows.shards, server.rows.generation

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def _call(self, call: Callable[[MemoryRows], Coroutine[Any, Any, T]]) -> T:
        loop, server = asyncio.get_running_loop(), self._server
        dice, chances = server.dice, server.chances
        reply: asyncio.Future[T] = loop.create_future()

        def carry_out(*, answers: bool = True) -> None:
            if loop.time() < server.down_until:
                return
            answer = server.do(call)
            if answers and dice.random() >= chances.lost and loop.time() >= self.cut_until:
                loop.call_later(dice.uniform(0.0005, 0.003), arrive, answer)

        def arrive(answer: T) -> None:
            if not reply.done():
                reply.set_result(answer)

        if loop.time() >= self.cut_until and dice.random() >= chances.lost:
            late = dice.random() < chances.late
            delay = dice.uniform(0.2, 3.0) if late else dice.uniform(0.0005, 0.003)
            loop.call_later(delay, carry_out, context=self._outside)
            if dice.random() < chances.twice:
                again: Callable[[], None] = lambda: carry_out(answers=False)  # noqa: E731
                loop.call_later(delay + dice.uniform(0.0, 2.0), again, context=self._outside)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reply
        except TimeoutError:
            raise StoreUnavailable("no answer") from None

    async def heads(self) -> Sequence[Head]:
        return await self._call(lambda rows: rows.heads())

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        return await self._call(lambda rows: self._server.change(rows.acquire(seen, token, node, schema)))

    async def release(self, head: Head, batch: int) -> bool:
        return await self._call(lambda rows: self._server.change(rows.release(head, batch)))

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        return await self._call(lambda rows: self._server.apply(rows, batches))

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        return await self._call(lambda rows: rows.read(shard, keys))

    async def names(self, shard: int, job: str) -> Sequence[str]:
        return await self._call(lambda rows: rows.names(shard, job))

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        return await self._call(lambda rows: rows.range(index, shards, low, high, limit, newest_first=newest_first))

    async def count(self, index: str, shards: Collection[int]) -> int:
        return await self._call(lambda rows: rows.count(index, shards))

    async def send(self, node: str, bodies: Sequence[bytes]) -> None:
        await self._call(lambda rows: rows.send(node, bodies))

    async def receive(self, node: str) -> Sequence[bytes]:
        wake = self._server.rows._wakes[node]
        wake.clear()

        async def read(rows: MemoryRows) -> Sequence[bytes]:
            return rows._mail.pop(node, ())

        mail = await self._call(read)
        if not mail:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await wake.wait()
        return mail

    async def records(self, kind: str, keys: Sequence[str] | None = None) -> Sequence[Record]:
        return await self._call(lambda rows: rows.records(kind, keys))

    async def exchange(self, changes: Sequence[Change]) -> Sequence[tuple[bool, Record | None]]:
        return await self._call(lambda rows: rows.exchange(changes))

    async def draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        return await self._call(lambda rows: rows.draw(draws))

    async def count_records(self, kind: str) -> int:
        return await self._call(lambda rows: rows.count_records(kind))

    async def expire(self, limit: int) -> int:
        return await self._call(lambda rows: rows.expire(limit))
