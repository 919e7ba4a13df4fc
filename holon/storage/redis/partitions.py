"""All partitions of the store: which one has what, and calls of several of them."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from holon.errors import StoreUnavailable
from holon.storage.promises import Promise, Promises
from holon.storage.redis.partition import Partition

T = TypeVar("T")


class Partitions:
    """The partitions of a store, by number.

    Arguments:
        some: the partitions.
    """

    def __init__(self, some: Sequence[Partition]) -> None:
        self._some = tuple(some)
        self._promises = Promises()
        self._turn = 0

    def __repr__(self) -> str:
        return repr(list(self._some))

    def __len__(self) -> int:
        return len(self._some)

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._some)

    def __getitem__(self, number: int) -> Partition:
        return self._some[number]

    @property
    def first(self) -> Partition:
        """The one that there always is."""
        return self._some[0]

    # Which one -------------------------------------------------------------------------------------------------

    def for_request(self, owner: str, request_id: str) -> Partition:
        """Where the job of a request is."""
        digest = blake2b(f"{len(owner)}:{owner}{request_id}".encode(), digest_size=8).digest()
        return self._some[int.from_bytes(digest, "big") % len(self)]

    def for_new(self) -> Partition:
        """Where a new job may be: any that takes it."""
        return random.choice([one for one in self if one.open] or self._some)  # noqa: S311  no secret

    def of(self, some_id: str) -> Partition:
        """Where a job is, or a task or a notice of one. An id that names no partition is one that all answer alike."""
        number = some_id.partition("-")[0]
        known = number.isascii() and number.isdecimal() and len(number) < 6 and int(number) < len(self)
        return self._some[int(number)] if known else self.first

    def split(self, items: Iterable[T], id_of: Callable[[T], str]) -> defaultdict[Partition, list[T]]:
        """Items by the partition that they are in, in their order."""
        parts: defaultdict[Partition, list[T]] = defaultdict(list)
        for item in items:
            parts[self.of(id_of(item))].append(item)
        return parts

    def in_turn(self, early: Callable[[Partition], bool]) -> Sequence[Partition]:
        """Every partition that is there, each time from another one on, but those first that something is known of."""
        self._turn = (self._turn + 1) % len(self)
        turn = (*self._some[self._turn :], *self._some[: self._turn])
        # One that is away says what waits when it is back.
        return sorted([one for one in turn if not one.away] or turn, key=lambda one: not early(one))

    def here(self, partition: Partition, time: int) -> int:
        """A time of a partition's clock, by the clock of the store: that of the first."""
        return time + self.first.now() - partition.now()

    # Calls -----------------------------------------------------------------------------------------------------

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some calls; a cancel comes before all of them or after the last reply, as it does with one."""
        try:
            if self._promises.cancelled:
                await self._promises.cancel_first()
        except BaseException:
            work.close()
            raise
        promise: Promise[T] = Promise(loop=asyncio.get_running_loop())

        def over(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                promise.set_exception(StoreUnavailable("the store is closed"))
            elif (error := task.exception()) is not None:
                promise.set_exception(error)
            else:
                promise.set_result(task.result())

        task = asyncio.create_task(work, name="store-partitions")
        task.add_done_callback(over)
        return await self._promises.kept(promise)

    async def every(self, call: Callable[[Partition], Awaitable[T]]) -> Sequence[T]:
        """The replies of all partitions to a call; raises the first error when all of them are over."""
        if len(self) == 1:
            return [await call(self.first)]
        return await self.whole(at_once(call(one) for one in self))

    async def there(self, call: Callable[[Partition], Awaitable[T]]) -> Sequence[T]:
        """The replies of the partitions that are there; raises when none of them is."""
        replies = await self.whole(_however(call(one) for one in self))
        found: list[T] = []
        for reply in replies:
            if not isinstance(reply, BaseException):
                found.append(reply)
            elif not isinstance(reply, StoreUnavailable):
                raise reply
        if not found:
            raise next(reply for reply in replies if isinstance(reply, BaseException))
        return found


async def _however(calls: Iterable[Awaitable[T]]) -> list[T | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The replies to calls that are made at once; raises the first error when all of them are over.

    Arguments:
        calls: made as they are gone through: who is cancelled before this begins makes none of them.
    """
    replies = await asyncio.gather(*calls, return_exceptions=True)
    found: list[T] = []
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
        found.append(reply)
    return found
