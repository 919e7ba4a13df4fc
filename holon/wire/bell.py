"""The wire: what wakes the one task that waits for something to do for a stream."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung by whoever has something to do for the one task that hears it; however often before, it is heard once.

    It is heard two turns of the loop after it was rung, when what the first of them brought is there too: so that is
    done together.

    An `asyncio.Event` is for any number of tasks, and takes some ten times the memory, also while nobody waits: that
    counts where there are thousands. And a task that gathers is resumed once by this, and not again by a sleep.
    """

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Bell(rung={self._rung}, heard={self._waiter is not None})"

    def ring(self) -> None:
        """Wake the task that hears it, now or when it next does."""
        if not self._rung:
            self._rung = True
            if self._waiter is not None:
                self._waiter.get_loop().call_soon(self._wake)

    async def heard(self) -> None:
        """Wait until it is rung, unless it was since it was last heard. On cancel it is not heard."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        if self._rung:
            loop.call_soon(self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
        self._rung = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
