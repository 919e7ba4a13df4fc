"""A file that people edit while the node runs: a change is seen, and it is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from holon.files import facts_of

EVERY_S = 1.0


class Following:
    """Looks at a file every second, and tells when it was written or replaced.

    Arguments:
        path: of the file.
        changed: awaited, once what changed has stayed the same for one look: half a file is no change.
        every: seconds between two looks.
    """

    def __init__(self, path: str, changed: Callable[[], Awaitable[None]], *, every: float = EVERY_S) -> None:
        self._path = path
        self._changed = changed
        self._every = every
        self._told = self._look()

    def __repr__(self) -> str:
        return f"Following({self._path})"

    async def run(self) -> None:
        """Follow it until cancelled."""
        before = self._told
        while True:
            await asyncio.sleep(self._every)
            now = await asyncio.to_thread(self._look)
            if now == before != self._told:
                self._told = now
                await self._changed()
            before = now

    def _look(self) -> object:
        return facts_of(self._path)
