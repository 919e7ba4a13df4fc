"""Files that people edit while the node runs: a change is seen, and what was changed is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from holon.files import facts_of

EVERY_S = 1.0


class Following:
    """Looks at some files every second, and tells when one was written or replaced.

    Arguments:
        paths: of the files.
        changed: awaited, once what changed has stayed the same for one look: half a file is no change.
        every: seconds between two looks.
    """

    def __init__(self, paths: Sequence[str], changed: Callable[[], Awaitable[None]], *, every: float = EVERY_S) -> None:
        self._paths = paths
        self._changed = changed
        self._every = every
        self._told = self._look()

    def __repr__(self) -> str:
        return f"Following({', '.join(self._paths)})"

    async def run(self) -> None:
        """Follow them until cancelled."""
        before = self._told
        while True:
            await asyncio.sleep(self._every)
            now = await asyncio.to_thread(self._look)
            if now == before != self._told:
                self._told = now
                await self._changed()
            before = now

    def _look(self) -> tuple[object, ...]:
        return tuple(facts_of(path) for path in self._paths)
