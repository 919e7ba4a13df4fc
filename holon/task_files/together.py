"""Many at a time, and not too many: what is done with each of a number of files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
AT_ONCE = 8


async def together(many: Iterable[T], do: Callable[[T], Awaitable[None]], at_once: int = AT_ONCE) -> None:
    """Do it with each, so many at once; what is the first to raise ends the others, and is raised."""
    left = iter(many)
    lanes = [asyncio.create_task(_lane(left, do), name="files") for _ in range(at_once)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


async def _lane(left: Iterator[T], do: Callable[[T], Awaitable[None]]) -> None:
    for one in left:
        await do(one)
