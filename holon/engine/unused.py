"""Contracts that nobody has in use: the last ones are kept, for whoever comes back soon."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Compiled, a pattern takes a thousand times the memory of its text: so many are kept in all.
MOST_PATTERNS = 256


class Unused(Generic[K, V]):
    """What is kept of contracts that nobody has in use, by key: as many as there may be, with as many patterns.

    Arguments:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # With how many patterns each has; the one that was put or looked up last is at the end.
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._patterns = 0

    def __repr__(self) -> str:
        return f"<Unused {len(self._kept)} of {self._most}, patterns={self._patterns}>"

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def put(self, key: K, value: V, patterns: int) -> Sequence[K]:
        """Keep one that is not kept yet, and has so many patterns; answers with those that are given up for it.

        They are those that were used longest ago, itself if need be.
        """
        self._kept[key] = value, patterns
        self._patterns += patterns
        given_up: list[K] = []
        while len(self._kept) > self._most or self._patterns > MOST_PATTERNS:
            oldest = next(iter(self._kept))
            self.take(oldest)
            given_up.append(oldest)
        return given_up

    def take(self, key: K) -> V:
        """Somebody uses it again: it is kept here no more; raises KeyError where it is not."""
        value, patterns = self._kept.pop(key)
        self._patterns -= patterns
        return value

    def look_up(self, key: K) -> V:
        """It is used just now, and stays; raises KeyError where it is not kept."""
        self._kept.move_to_end(key)
        return self._kept[key][0]
