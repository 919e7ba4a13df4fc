"""The wire: what wakes the one task that waits for something to do for a stream."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung by whoever has something to do for the one task that hears it; however often before, it is heard once.

    Who gathers hears it two turns of the loop after it was rung, when what the first of them brought is there too: so
    that is done together. Who does not hears it one turn after.

    An `asyncio.Event` is for any number of tasks, and takes some ten times the memory, also while nobody waits: that
    counts where there are thousands. And a task that gathers is resumed once by this, and not again by a sleep.
    """

    __slots__ = ("_gathers", "_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._gathers = False
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Bell(rung={self._rung}, heard={self._waiter is not None})"

    def ring(self) -> None:
        """Wake the task that hears it, now or when it next does."""
        if not self._rung:
            self._rung = True
            if self._waiter is not None:
                self._wake_in_turn(self._waiter.get_loop())

    async def heard(self, *, gathers: bool) -> None:
        """Wait until it is rung, unless it was since it was last heard. On cancel it is not heard.

        Arguments:
            gathers: whether what a turn more brings is waited for: where much comes, and not where one waits for it.
        """
        loop = asyncio.get_running_loop()
        self._waiter, self._gathers = loop.create_future(), gathers
        if self._rung:
            self._wake_in_turn(loop)
        try:
            await self._waiter
        finally:
            self._waiter = None
        self._rung = False

    def _wake_in_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._gathers:
            loop.call_soon(self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
