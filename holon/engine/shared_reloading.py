"""Reloading on every node of a store: who has read its files again marks that in the store, and the others follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import orjson

from holon.engine.reloading import Reloading
from holon.errors import StoreUnavailable
from holon.ports import Change, Document, DocumentHints, Shared, change_document
from holon.telemetry.audit import By
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# What reads parts again, by their names, and answers with the names of what is in force.
Reload: TypeAlias = Callable[[Sequence[str], By], Awaitable[tuple[str, ...]]]

KIND = "reload"
# Hints can be lost: this is how long another node's mark can then go unseen.
LOOK_EVERY_S = 30.0
# A node that was starting while others reloaded may have read its files just before.
FRESH_MS = 60_000
KEPT_MS = 86_400_000


class SharedReloading:
    """Reads this node's files again, has the other nodes read theirs, and follows when they do.

    What is marked is the name of each part, so that of two marks none hides the other.

    Arguments:
        now: the store's clock, in epoch milliseconds.
        node_id: this node's.

    Attributes:
        hints: is to be told when documents change; perhaps it is a mark.
    """

    def __init__(self, reloading: Reloading, store: Shared, now: Callable[[], int], node_id: str) -> None:
        self._reloading = reloading
        self._store = store
        self._now = now
        self._node_id = node_id
        self._seen: dict[str, int] = {}
        self._away = Seldom(log)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"SharedReloading({self._reloading!r}, seen={self._seen})"

    async def reload(self, targets: Sequence[str], by: By) -> tuple[str, ...]:
        """Read parts again here, and once they are in force have every other node do so; as `Reloading.reload`.

        Raises:
            StoreUnavailable: this node has read its files again, and could not tell the others; repeat it.
        """
        names = await self._reloading.reload(targets, by)
        try:
            for name in names:
                await self._mark(name)
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"this node has reloaded {', '.join(names)}, but could not tell the other nodes: {error.message}; "
                "repeat the reload",
                retry_after=error.retry_after,
            ) from error
        return names

    async def run(self) -> None:
        """Follow the marks of other nodes, until cancelled."""
        first = True
        while True:
            try:
                marks = await self._store.documents(KIND)
            except StoreUnavailable as error:
                self._away.warn("a reload of other nodes is repeated here later", why=error.message)
                await asyncio.sleep(error.again_after)
                continue
            await self._follow([mark for mark in marks if self._is_news(mark, first=first)])
            first = False
            await self.hints.wait(LOOK_EVERY_S)

    async def _mark(self, name: str) -> None:
        mark = Change(orjson.dumps({"node": self._node_id, "at": self._now()}), KEPT_MS)
        await change_document(self._store, KIND, name, lambda _: (None, mark))

    def _is_news(self, mark: Document, *, first: bool) -> bool:
        known = self._seen.get(mark.key)
        self._seen[mark.key] = mark.version
        if known == mark.version:
            return False
        try:
            said = orjson.loads(mark.value)
            node, at = said["node"], int(said["at"])
        except (ValueError, TypeError, KeyError) as error:
            log.error("the mark of a reload of %s cannot be read, and is ignored: %r", mark.key[:64], error)
            return False
        return node != self._node_id and (not first or at > self._now() - FRESH_MS)

    async def _follow(self, marks: Sequence[Document]) -> None:
        names = [mark.key for mark in marks if mark.key in self._reloading.targets]
        # Each by itself: what is wrong with one file here is nothing that its nodes were told of another.
        for name in names:
            await self._reloading.reload_unattended([name], By("node"))
