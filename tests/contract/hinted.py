"""The hints of a store, looked at after the fact."""

from __future__ import annotations

from collections.abc import Callable

from holon.ports import Hint
from tests.contract.world import World
from tests.hints import heard, hints_of


class Hints:
    """All hints from when it was made."""

    def __init__(self, world: World) -> None:
        self._coming = hints_of(world.storage)

    async def until(self, wanted: Callable[[Hint], object]) -> Hint:
        """The next hint that says what is wanted; others are passed over."""
        return await heard(self._coming, wanted)
