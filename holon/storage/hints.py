"""Wake-ups from the store: told as they come to whoever hears them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from holon.domain.value import replace
from holon.ports import Hint

_NOTHING = Hint()


class Hints:
    """Where a store leaves its hints. For one event loop.

    Attributes:
        watched: the jobs whose every change is to be hinted at.
        kinds: the kinds of documents that somebody has asked for, where hints from other nodes can be lost.
    """

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.kinds: set[str] = set()
        self._told: dict[object, Callable[[Hint], None]] = {}

    def give(self, hint: Hint) -> None:
        """Tell everybody of a hint; of jobs, those that are watched now."""
        jobs = hint.jobs & self.watched
        if jobs != hint.jobs:
            hint = replace(hint, jobs=jobs)
        if hint != _NOTHING:
            for told in tuple(self._told.values()):
                told(hint)

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        """Have hints told from now on, until the answer is called; `told` neither waits nor raises."""
        key = object()
        self._told[key] = told
        return partial(self._told.pop, key, None)
