"""The time of a store that nodes share: its server's, as far as this node knows it."""

from __future__ import annotations

from collections.abc import Callable

from holon.clock import Clock

# An answer of the store that took longer than this (milliseconds) tells only that its time is no earlier.
PROMPT_MS = 100


class StoreTime:
    """A clock that follows the store's clock, by this machine's, and never goes back.

    Arguments:
        clock: this machine's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: int | None = None
        self._last = 0

    def __repr__(self) -> str:
        return f"StoreTime(offset={self._offset})"

    def ask(self) -> Callable[[int], None]:
        """The store is asked for its time now; call the answer with what it says, epoch milliseconds."""
        asked = self._clock.now_ms()

        def heard(store_ms: int) -> None:
            now = self._clock.now_ms()
            # It is that late at least.
            if now - asked <= PROMPT_MS or self._offset is None or self._offset < store_ms - now:
                self._offset = store_ms - now

        return heard

    def now_ms(self) -> int:
        if self._offset is None:
            # Nothing is written before the store has told its time.
            return max(self._last, self._clock.now_ms())
        self._last = max(self._last, self._clock.now_ms() + self._offset)
        return self._last

    def not_before(self, floor_ms: int) -> None:
        self._last = max(self._last, floor_ms)

    def wall_ms(self) -> int:
        return self._clock.wall_ms()

    def on_jump(self, listener: Callable[[], object]) -> None:
        self._clock.on_jump(listener)
