"""Executor slots: how many jobs this node may run at once. The only place where claims change hands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from holon.ports import Claim


class Wanted:
    """What one store call asked for, until its claims are in."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.claims: Sequence[Claim] = ()


class Slots:
    """The free slots of the executor, and the claims that wait for one of its lanes.

    A store call that can make jobs ready asks for as many claims as it reserved here, so that a node never holds a
    claim that it cannot run at once.

    Arguments:
        limit: how many jobs run at once, at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._claims: asyncio.Queue[Claim] = asyncio.Queue()
        self._freed = asyncio.Event()
        self._open = True

    def __repr__(self) -> str:
        return f"Slots(taken={self._taken}, limit={self.limit}, open={self._open})"

    @property
    def taken(self) -> int:
        """Slots in use: jobs that run, wait for a lane, or are asked for."""
        return self._taken

    @contextmanager
    def wanting(self, most: int) -> Iterator[Wanted]:
        """Reserve up to `most` free slots around a store call; set `claims` on what is yielded."""
        wanted = Wanted(min(most, self.limit - self._taken) if self._open else 0)
        self._taken += wanted.n
        try:
            yield wanted
        finally:
            self._taken -= wanted.n - len(wanted.claims)
            for claim in wanted.claims:
                self._claims.put_nowait(claim)
            if self._taken < self.limit:
                self._freed.set()

    async def free(self) -> int:
        """Wait until a slot is free; answers with how many are."""
        while self._taken >= self.limit or not self._open:
            self._freed.clear()
            await self._freed.wait()
        return self.limit - self._taken

    async def take(self) -> Claim:
        """Wait for a claim to run; `done` is called when it was."""
        return await self._claims.get()

    def done(self) -> None:
        """A lane has finished with its claim."""
        self._taken -= 1
        self._freed.set()

    def close(self) -> None:
        """Ask for no more claims; those that are here still run."""
        self._open = False

    async def idle(self) -> None:
        """Wait until no slot is in use; after `close`."""
        while self._taken:
            self._freed.clear()
            await self._freed.wait()
