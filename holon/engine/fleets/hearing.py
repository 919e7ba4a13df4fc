"""Fleets: a node hears what the others tell of their workers, when they tell it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import DecodeError
from msgspec.msgpack import Decoder

from holon.engine.fleets.elsewhere import Elsewhere, Roll
from holon.engine.fleets.pages import Shelf, shelves_in
from holon.engine.fleets.stock import Stock, Stocked, stocked_in
from holon.engine.fleets.telling import HEADS, PAGES, page_key
from holon.errors import HolonError
from holon.ports import Document, DocumentHints, Shared
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# What others tell is looked at so often at most.
PAUSE_S = 0.25
# Hints can be lost, and a node that ends without a word says nothing: so long either can go unseen.
LOOK_EVERY_S = 10.0

_read_head = Decoder(tuple[int, ...]).decode


class _Page(NamedTuple):
    """A page that was read: its version, and what is on it."""

    version: int
    shelves: Sequence[Shelf]


class Hearing:
    """Reads what the other nodes have told, as far as it has changed.

    Arguments:
        elsewhere: is told of it.
        node_id: names this node.

    Attributes:
        hints: is to be told when documents change; perhaps another node tells something new.
    """

    def __init__(self, store: Shared, elsewhere: Elsewhere, node_id: str) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self._node_id = node_id
        # By node, its pages.
        self._pages: dict[str, list[_Page]] = {}
        self._rolls: dict[str, Roll] = {}
        # What workers offer, by how it was told: it is long, and most offer the same.
        self._stocked: dict[bytes, Stocked] = {}
        self._away = Seldom(log)
        self.hints = DocumentHints(HEADS)

    def __repr__(self) -> str:
        return f"Hearing(nodes={len(self._pages)}, stocked={len(self._stocked)})"

    async def run(self) -> None:
        """Hear the others until cancelled."""
        while True:
            try:
                await self.look()
            except HolonError as error:
                self._away.warn("the workers of other nodes could not be updated", why=error.message)
                self.hints.wake()
            await asyncio.sleep(PAUSE_S)
            await self.hints.wait(LOOK_EVERY_S - PAUSE_S)

    async def look(self) -> None:
        """Know what the others have told by now.

        Raises:
            StoreUnavailable: the store is away.
        """
        heads = [one for one in await self._store.documents(HEADS) if one.key != self._node_id]
        pages = {head.key: await self._pages_of(head) for head in heads}
        changed = {node for node, its in pages.items() if its != self._pages.get(node)}
        if not changed and pages.keys() == self._pages.keys():
            return
        rolls = {node: self._roll(node, its) if node in changed else self._rolls[node] for node, its in pages.items()}
        self._pages, self._rolls = pages, rolls
        used = {shelf.stock for its in pages.values() for page in its for shelf in page.shelves}
        self._stocked = {text: one for text, one in self._stocked.items() if text in used}
        self._elsewhere.are(rolls)

    async def _pages_of(self, head: Document) -> list[_Page]:
        known = self._pages.get(head.key, [])
        try:
            versions = _read_head(head.value)
        except DecodeError as error:
            self._cannot_read(head.key, repr(error))
            return known
        pages: list[_Page] = []
        for number, version in enumerate(versions):
            if number < len(known) and known[number].version == version:
                pages.append(known[number])
            elif (page := await self._store.document(PAGES, page_key(head.key, number))) is not None:
                shelves = shelves_in(page.value)
                if shelves is None:
                    self._cannot_read(head.key, "a page of it is invalid")
                pages.append(_Page(page.version, shelves or ()))
            else:
                # It has gone meanwhile, and what is told of that is on its way.
                pages.append(known[number] if number < len(known) else _Page(0, ()))
        return pages

    def _roll(self, node: str, pages: Sequence[_Page]) -> Roll:
        shelves = [(self._stocked_in(node, shelf.stock), shelf.workers) for page in pages for shelf in page.shelves]
        return Roll(node, shelves)

    def _stocked_in(self, node: str, text: bytes) -> Stocked:
        stocked = self._stocked.get(text)
        if stocked is None:
            stocked = stocked_in(text)
            if stocked is None:
                self._cannot_read(node, "the offer of a worker is invalid")
                stocked = Stocked(Stock())
            self._stocked[text] = stocked
        return stocked

    def _cannot_read(self, node: str, why: str) -> None:
        self._away.warn("what node %s reported about its workers cannot be read, and is ignored", node, why=why)
