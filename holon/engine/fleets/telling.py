"""Fleets: a node tells the others of its workers: in documents of the store that run out with it."""

from __future__ import annotations

import asyncio
import logging

from msgspec.msgpack import Encoder

from holon.domain.fleet import SkillReputation
from holon.domain.reputation import rounded
from holon.domain.value import replace
from holon.engine.fleet import Fleet, Present
from holon.engine.fleets.pages import Line, Told, paged, text_of
from holon.engine.fleets.stocks import Stocks
from holon.errors import HolonError, StoreUnavailable
from holon.ports import OwnDocument, Shared
from holon.telemetry.seldom import Seldom
from holon.turns import Turn

log = logging.getLogger(__name__)

# Who tells has a head here, which names the versions of its pages.
HEADS = "fleets"
PAGES = "fleet_pages"
# What has changed is told so often at most.
PAUSE_S = 1.0
# How much workers hold, and when they were heard of, is told so often; and that this node is there.
REPEAT_S = 10.0
GOOD_MS = 30_000
# Pages that nothing changes are written anew well before they run out.
PAGES_GOOD_MS = 600_000
PAGES_REPEAT_S = 200.0
# What is told of a worker beside its skills has no more bytes; else its machines are left out, and then its labels.
MOST_OF_ONE = 16 * 1024
# Of the reputations that are below the best, this many are told, the lowest.
MOST_REPUTATIONS = 32

_encode = Encoder().encode


class Telling:
    """Tells of the workers of this node whenever they are others, offer other things, or are drained.

    Arguments:
        node_id: names this node, unique among those of the store.
    """

    def __init__(self, store: Shared, fleet: Fleet, node_id: str) -> None:
        self._store = store
        self._fleet = fleet
        self._node_id = node_id
        self._head = OwnDocument(store, HEADS, node_id)
        self._pages: list[_Page] = []
        self._stocks = Stocks()
        self._is_less = False
        self._away = Seldom(log)
        self._changed = asyncio.Event()
        fleet.on_change = self._changed.set

    def __repr__(self) -> str:
        return f"Telling({self._node_id}, pages={len(self._pages)})"

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self._tell()
            except HolonError as error:
                self._away.warn("the workers of this node cannot be reported to the other nodes", why=error.message)
                self._changed.set()
            await asyncio.sleep(PAUSE_S)
            try:
                async with asyncio.timeout(REPEAT_S - PAUSE_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def leave(self) -> None:
        """Tell nothing any more: this node ends. Where that cannot be told, it runs out."""
        try:
            await self._head.write(None)
            for page in self._pages:
                await page.document.write(None)
        except StoreUnavailable as error:
            log.debug("the report about the workers of this node cannot be removed, and expires: %s", error.message)

    async def _tell(self) -> None:
        texts, left = paged(await self._lines(), max(1, len(self._pages)))
        now = asyncio.get_running_loop().time()
        while len(self._pages) < len(texts):
            self._pages.append(_Page(OwnDocument(self._store, PAGES, page_key(self._node_id, len(self._pages)))))
        for page, text in zip(self._pages, texts, strict=False):
            if text != page.text or now - page.at >= PAGES_REPEAT_S:
                page.text = b""
                page.version = await page.document.write(text, PAGES_GOOD_MS)
                page.text, page.at = text, now
        await self._head.write(_encode([page.version for page in self._pages[: len(texts)]]), GOOD_MS)
        while len(self._pages) > len(texts):
            # Nobody is told of it any more.
            await self._pages[-1].document.write(None)
            self._pages.pop()
        self._say(self._stocks.less, left)

    async def _lines(self) -> list[Line]:
        """All workers, a few at a time: others run in between, and some may come or go."""
        lines: list[Line] = []
        turn = Turn()
        self._stocks.begin()
        for present in self._fleet.workers():
            stock = self._stocks.of(present)
            lines.append(Line(present.worker_id, stock, self._text_of(present)))
            if turn.over:
                await turn.rest()
        self._stocks.end()
        return lines

    def _text_of(self, present: Present) -> bytes:
        told = told_of(present)
        text = text_of(told)
        if len(text) > MOST_OF_ONE:
            self._stocks.less += 1
            reputations = tuple([SkillReputation(one.skill, one.value, one.trusted) for one in told.reputations])
            told = replace(told, machines=(), hot=(), cached=(), load=None, reputations=reputations)
            text = text_of(told)
        return text if len(text) <= MOST_OF_ONE else text_of(replace(told, labels={}))

    def _say(self, less: int, left: int) -> None:
        if (less or left) and not self._is_less:
            log.warning(
                "the workers of this node report too much to share it with the other nodes: about %d workers they "
                "know less, and about %d nothing. Report fewer machines, labels and skills per worker, or spread "
                "the workers over more nodes",
                less,
                left,
            )
        self._is_less = bool(less or left)


def page_key(node_id: str, number: int) -> str:
    """The key of a page of a node's."""
    return f"{node_id}/{number}"


def told_of(present: Present) -> Told:
    """What is told of a worker."""
    session, holon = present.session, present.holon
    return Told(
        present.worker_id,
        session.instance_id,
        session.taking,
        session.credits,
        len(session.leases),
        present.since,
        present.heard,
        present.sdk,
        dict(present.labels),
        holon.holon_id if holon is not None else "",
        holon.label if holon is not None else "",
        present.weight,
        tuple(present.catalog.machines),
        tuple(sorted(present.catalog.hot)),
        tuple(sorted(present.catalog.cached)),
        tuple(present.catalog.warnings),
        present.load,
        tuple([rounded(one) for one in session.shown_reputations[:MOST_REPUTATIONS]]),
    )


class _Page:
    """A page as it was written last."""

    def __init__(self, document: OwnDocument) -> None:
        self.document = document
        self.text = b""
        self.version = 0
        self.at = 0.0
