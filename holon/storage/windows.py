"""Rate windows: in the memory of the process that has the store to itself, or in counters that nodes share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from holon.ports import Count, Counted
from holon.stores.port import Draw, Drawn

RATE = "rate"
# So many keys are counted at a time. Past that, those whose windows end first are forgotten.
MAX_KEYS = 100_000


class Windows:
    """Counts calls in windows that follow each other, aligned to the clock."""

    def __init__(self) -> None:
        # The window that a key was last counted in: when it ends, and how much is in it.
        self._last: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"Windows(keys={len(self._last)})"

    def count(self, item: Count, now: int) -> Counted:
        """Count, if it fits as a whole."""
        end = now - now % item.period_ms + item.period_ms
        last, used = self._last.get(item.key, (end, 0))
        if last != end:
            used = 0
        granted = used + item.n <= item.limit
        if granted:
            used += item.n
            _make_room(self._last, item.key, now)
            self._last[item.key] = (end, used)
        return Counted(granted, max(0, item.limit - used), end - now)


class DrawnWindows:
    """Counts calls in counters of the row store, which end with their windows.

    A window that refused a call is remembered until it ends. What cannot fit into it is refused without a draw.

    Arguments:
        draw: draws on counters.
    """

    def __init__(self, draw: Callable[[Sequence[Draw]], Awaitable[Sequence[Drawn]]]) -> None:
        self._draw = draw
        # When a window that refused a call ends, by this process's clock, and how much is in it.
        self._full: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"DrawnWindows(full={len(self._full)})"

    async def count(self, items: Sequence[Count], now: Callable[[], int]) -> Sequence[Counted]:
        """Count each item if it fits as a whole, all of them in one draw."""
        answers = [self._refused(item, now()) for item in items]
        asked = [item for item, answer in zip(items, answers, strict=True) if answer is None]
        draws = [Draw(RATE, item.key, item.n, item.limit, item.period_ms, aligned=True) for item in asked]
        counted = iter(
            [self._counted(item, drawn, now()) for item, drawn in zip(asked, await self._draw(draws), strict=True)]
        )
        return [next(counted) if answer is None else answer for answer in answers]

    def _refused(self, item: Count, now: int) -> Counted | None:
        """The refusal of an item that certainly does not fit."""
        end, used = self._full.get(item.key, (0, 0))
        if end <= now or used + item.n <= item.limit:
            return None
        return Counted(False, max(0, item.limit - used), end - now)

    def _counted(self, item: Count, drawn: Drawn, now: int) -> Counted:
        if not drawn.granted:
            _make_room(self._full, item.key, now)
            self._full[item.key] = (now + drawn.expires_in, drawn.value)
        return Counted(drawn.granted, max(0, item.limit - drawn.value), drawn.expires_in)


def _make_room(windows: dict[str, tuple[int, int]], key: str, now: int) -> None:
    """Before a window that is not known is added to very many: forget those that are over.

    Of the others so many are forgotten, those first that end first, that this is not done again soon.
    """
    if key in windows or len(windows) < MAX_KEYS:
        return
    living = sorted((end, name) for name, (end, _) in windows.items() if end > now)
    kept = {name: windows[name] for _, name in living[max(0, len(living) - MAX_KEYS // 2) :]}
    windows.clear()
    windows.update(kept)
