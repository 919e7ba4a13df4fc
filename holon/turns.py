"""Turns: long work on the event loop is done for so long at a time, and lets others run in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")
Made = TypeVar("Made")

# So long a piece of work is at it before others run, in seconds.
AT_ONCE_S = 0.01
# A pass of the loop that takes less, in seconds, ran nothing; after so many of them others have nothing to do.
IDLE_PASS_S = 0.000_05
IDLE_PASSES = 3
# So many of what is worked on are taken together: what is done with each takes microseconds.
CHUNK = 200


class Turn:
    """How long one piece of work has kept the event loop since others ran last; it begins when this is made."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = perf_counter()

    def __repr__(self) -> str:
        return f"Turn({self.seconds:.3f} s)"

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return perf_counter() - self._began

    @property
    def over(self) -> bool:
        """Whether others are to run now."""
        return perf_counter() - self._began > AT_ONCE_S

    async def rest(self) -> None:
        """Let others run; where the turn is over, for as long as it has lasted, if they have so much to do.

        Then the next turn begins.
        """
        now = perf_counter()
        ends = now + self.seconds if self.over else now
        await asyncio.sleep(0)
        idle = 0
        # A pass of the loop would not be enough then: what others do takes many.
        while idle < IDLE_PASSES and (before := perf_counter()) < ends:
            await asyncio.sleep(0)
            idle = idle + 1 if perf_counter() - before < IDLE_PASS_S else 0
        self._began = perf_counter()


async def in_chunks(every: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """A few of these after the other, in their order; others run in between. It begins with no wait."""
    turn = Turn()
    for at in range(0, len(every), CHUNK):
        if at:
            await turn.rest()
        yield every[at : at + CHUNK]


async def one_by_one(work: Callable[[T], Made], every: Iterable[T]) -> list[Made]:
    """What is made of each of these, in their order; others run in between where that takes more than a turn.

    Raises what `work` does.
    """
    made: list[Made] = []
    turn = Turn()
    for one in every:
        if turn.over:
            await turn.rest()
        made.append(work(one))
    return made
