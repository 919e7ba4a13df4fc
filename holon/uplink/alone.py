"""The uplink: what is done of one task at a time, where nearly always nobody else is at it: then nothing is made."""

from __future__ import annotations

from asyncio import Event


class Alone:
    """One at a time for each name; another waits until it is left."""

    def __init__(self) -> None:
        # Those that are taken, with what wakes who waits for them; None: nobody does.
        self._taken: dict[str, Event | None] = {}

    def __repr__(self) -> str:
        return f"Alone({len(self._taken)})"

    async def take(self, name: str) -> None:
        """Wait until nobody has it, and have it; to be left then, whatever happens."""
        while name in self._taken:
            left = self._taken[name]
            if left is None:
                left = self._taken[name] = Event()
            await left.wait()
        self._taken[name] = None

    def take_if_free(self, name: str) -> bool:
        """Have it, if nobody has it; whether that is so."""
        free = name not in self._taken
        if free:
            self._taken[name] = None
        return free

    def leave(self, name: str) -> None:
        """The next may have it."""
        left = self._taken.pop(name)
        if left is not None:
            left.set()
