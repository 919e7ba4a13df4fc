"""Fleets: the skills of all workers of a node, as they are told: they are long, and most offer the same."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from holon.domain.fleet import Catalog
from holon.engine.fleet import Present
from holon.engine.fleets.stock import Packed, Stock, nothing, packed, text_of

# All skills that the workers of a node offer have no more bytes than this, each once.
MOST_OF_ALL = 32 * 1024 * 1024


class Stocks:
    """What is told of the skills of each worker, made once for each catalog.

    Attributes:
        less: of how many workers not all is told; counted anew from `begin` on.
    """

    def __init__(self) -> None:
        # By worker: the catalog that it was made of, and which it is.
        self._of: dict[str, tuple[Catalog, bytes]] = {}
        self._packed: dict[bytes, Packed] = {}
        self._before: tuple[Mapping[str, tuple[Catalog, bytes]], Mapping[bytes, Packed]] = ({}, {})
        self._bytes = 0
        self.less = 0

    def __repr__(self) -> str:
        return f"Stocks(workers={len(self._of)}, different={len(self._packed)})"

    def begin(self) -> None:
        """All that is asked for from now on is what there is."""
        self._before = self._of, self._packed
        self._of, self._packed = {}, {}
        self._bytes = self.less = 0

    def end(self) -> None:
        """All was asked for; what was not is forgotten."""
        self._before = {}, {}

    def of(self, present: Present) -> bytes:
        """The skills of a worker."""
        of_before, packed_before = self._before
        known = of_before.get(present.worker_id)
        text: bytes | None = None
        if known is None or known[0] is not present.catalog:
            stock = stock_of(present)
            text = text_of(stock)
            known = present.catalog, blake2b(text, digest_size=16).digest()
        name = known[1]
        one = self._packed.get(name) or packed_before.get(name)
        if one is None:
            stock = stock_of(present)
            one = packed(stock, text or text_of(stock))
        if name not in self._packed:
            if self._bytes + one.size > MOST_OF_ALL:
                one = nothing()
            self._bytes += one.size
            self._packed[name] = one
        self._of[present.worker_id] = known
        self.less += not one.whole
        return one.text


def stock_of(present: Present) -> Stock:
    """The skills of a worker."""
    session = present.session
    return Stock(present.known, session.offerings, session.keeps_resources)
