"""What became of what was taken, said to the partitions it was taken of. One that is away hears it once it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from holon.errors import StoreUnavailable
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions

T = TypeVar("T")
S = TypeVar("S")


class Settled(Generic[T]):
    """Settles in several partitions what is there, and keeps for later what is not.

    That is no more than was in hand when a partition went: of one that is away nothing more is taken.

    Arguments:
        id_of: tells where something was taken, as an id that begins with its partition.
        settle: settles some in one partition; a repeat changes nothing.
    """

    def __init__(self, id_of: Callable[[T], str], settle: Callable[[Partition, Sequence[T]], Awaitable[None]]) -> None:
        self._id_of = id_of
        self._settle = settle
        self._left: list[T] = []

    def __repr__(self) -> str:
        return f"Settled(left={len(self._left)})"

    async def settle(self, partitions: Partitions, some: Sequence[T]) -> None:
        """Settle these, and what was left before.

        Raises:
            StoreUnavailable: the store has only one partition, or none of them is there; nothing of these is kept.
        """
        if len(partitions) == 1:
            if some:
                await self._settle(partitions.first, some)
            return
        left, self._left = self._left, []
        none_is_there = all(one.away for one in partitions)
        asked: dict[Partition, list[T]] = {}
        kept: list[T] = []
        for partition, its in partitions.split((*left, *some), self._id_of).items():
            if none_is_there or not partition.away:
                asked[partition] = its
            else:
                kept += its
        calls = [self._settle(partition, its) for partition, its in asked.items()]
        lost: StoreUnavailable | None = None
        for its, reply in zip(asked.values(), await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(reply, StoreUnavailable):
                lost = reply
                kept += its
            elif isinstance(reply, BaseException):
                raise reply
        lost = lost if all(one.away for one in partitions) else None
        # Others may have left some meanwhile.
        self._left += kept if lost is None else left
        if lost is not None:
            raise lost

    async def first(self, partitions: Partitions, take: Callable[[], Awaitable[S]]) -> S:
        """Settle what was left before, where that is there again, and then take: else it would be taken again."""
        if self._left:
            with suppress(StoreUnavailable):
                await self.settle(partitions, ())
        return await take()
