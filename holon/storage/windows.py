"""Rate windows of a store that one process owns: they live in its memory, and are not durable."""

from __future__ import annotations

from holon.ports import Count, Counted

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
            if item.key not in self._last and len(self._last) >= MAX_KEYS:
                self._make_room(now)
            self._last[item.key] = (end, used)
        return Counted(granted, max(0, item.limit - used), end - now)

    def _make_room(self, now: int) -> None:
        """Forget the windows that are over; and so many more that this is not done again soon."""
        living = sorted((end, key) for key, (end, _) in self._last.items() if end > now)
        kept = living[max(0, len(living) - MAX_KEYS // 2) :]
        self._last = {key: self._last[key] for _, key in kept}
