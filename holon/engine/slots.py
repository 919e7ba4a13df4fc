"""Executor slots: how many jobs this node may run at once. The only place where claims change hands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from holon.ports import Claim


class Wanted:
    """What one store call asks for: reserved while it is entered (`with`), until its `claims` are in, set by who calls.

    Attributes:
        n: how many slots were free for it.
    """

    __slots__ = ("_most", "_slots", "claims", "n")

    def __init__(self, slots: Slots, most: int) -> None:
        self._slots = slots
        self._most = most
        self.n = 0
        self.claims: Sequence[Claim] = ()

    def __enter__(self) -> Self:
        self.n = self._slots.reserve(self._most)
        return self

    def __exit__(self, *_: object) -> None:
        self._slots.take_in(self.n, self.claims)


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
        self._reserved = 0
        self._claims: asyncio.Queue[Claim] = asyncio.Queue()
        self._freed = asyncio.Event()
        self._open = True

    def __repr__(self) -> str:
        return f"Slots(taken={self._taken}, limit={self.limit}, open={self._open})"

    @property
    def taken(self) -> int:
        """Slots in use: jobs that run, wait for a lane, or are asked for."""
        return self._taken

    @property
    def used(self) -> int:
        """Those of them that jobs have. What store calls ask for beside that, they mostly do not find."""
        return self._taken - self._reserved

    def wanting(self, most: int) -> Wanted:
        """What a store call may ask for: up to `most` of the slots that are free when it is entered."""
        return Wanted(self, most)

    def reserve(self, most: int) -> int:
        """Take up to so many free slots for a call; how many those are."""
        n = min(most, self.limit - self._taken) if self._open else 0
        self._taken += n
        self._reserved += n
        return n

    def take_in(self, n: int, claims: Sequence[Claim]) -> None:
        """The call for which so many slots were reserved is over, and brought these claims."""
        self._taken -= n - len(claims)
        self._reserved -= n
        for claim in claims:
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
