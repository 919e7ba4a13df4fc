"""A store that is open: its partitions, and what is between them."""

from __future__ import annotations

from holon.errors import StoreUnavailable
from holon.storage.hints import Hints
from holon.storage.redis.partitions import Partitions
from holon.storage.redis.several import Several
from holon.storage.redis.shares import Shares
from holon.storage.redis.visits import Visits


class Whole:
    """What the calls of a store have in common.

    Arguments:
        partitions: how many there are.
    """

    def __init__(self, partitions: int) -> None:
        self._count = partitions
        self._hints = Hints()
        self._open: Partitions | None = None
        # These are there where there are several.
        self._shares: Shares | None = None
        self._visits: Visits | None = None
        self._of_several: Several | None = None

    @property
    def _several(self) -> Several:
        if self._of_several is None:
            raise StoreUnavailable("the store is not open")
        return self._of_several

    @property
    def _partitions(self) -> Partitions:
        if self._open is None:
            raise StoreUnavailable("the store is not open")
        return self._open

    def now(self) -> int:
        return self._partitions.first.now()
