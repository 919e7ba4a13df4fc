"""What all nodes share of tokens: the keys that sign them, and which families of them were ended."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import msgpack

from holon.errors import StoreUnavailable
from holon.ports import Change, Document, DocumentHints, Shared, change_document, place_of
from holon.security.sts.ring import Ring, Schedule
from holon.security.sts.sealing import Sealer

log = logging.getLogger(__name__)

KEYS = "signing_keys"
# By worker, so that none fills it for the others: its families that were ended, and until when that matters.
ENDED = "ended_tokens"
# All keys are one document, so that nodes cannot make two at once.
RING = "ring"
# A hint can be lost; this is how long an ended token can then still be taken.
LOOK_EVERY_S = 10.0
# Whoever names keys that do not exist makes the store be asked no more often than this.
_LEAST_S = 1.0
_RETRY_S = 1.0
# Keys that the store is sealed with change one node after the other; meanwhile none seals again and again what the next
# one seals otherwise.
RESEAL_EVERY_MS = 3_600_000
# Of one worker; past it the first go, whose access tokens then last as long as they would have.
_MOST_ENDED = 64
# How long a call waits for a look.
_PATIENCE_S = 3.0


class TokenState:
    """Follows the store's documents, and makes new keys when it is time.

    Arguments:
        store: where they are.
        now: the store's clock, in epoch milliseconds.
        schedule: when keys come and go.
        sealer: through which keys go into the store.

    Attributes:
        hints: is to be told when documents change.
    """

    def __init__(self, store: Shared, now: Callable[[], int], schedule: Schedule, sealer: Sealer) -> None:
        self._store = store
        self._now = now
        self._schedule = schedule
        self._sealer = sealer
        self._ring: Ring | None = None
        self._resealed_at = -math.inf
        # By family, whose it was.
        self._ended: dict[str, str] = {}
        self.hints = DocumentHints(KEYS, ENDED)
        self._looked = asyncio.Condition()
        # Looks at the store, by number: begun, done, and the one that somebody last asked for, and when.
        self._begun = 0
        self._done = 0
        self._asked = 0
        self._asked_at = -math.inf
        self._listeners: list[Callable[[frozenset[str] | None], None]] = []

    def __repr__(self) -> str:
        keys = "not read yet" if self._ring is None else f"keys={len(self._ring.keys)}"
        return f"TokenState({keys}, ended={len(self._ended)})"

    @property
    def ring(self) -> Ring:
        """The keys.

        Raises:
            StoreUnavailable: they could not be read yet.
        """
        if self._ring is None:
            raise StoreUnavailable(
                "the node has not read its signing keys from the store yet; retry later", retry_after=_RETRY_S
            )
        return self._ring

    def ended(self, family: str) -> bool:
        """Whether a family of tokens was ended, as far as is known here."""
        return family in self._ended

    def on_ended(self, listener: Callable[[frozenset[str] | None], None]) -> None:
        """Have this called whenever more families were ended, with the workers whose they were; None: a key was."""
        self._listeners.append(listener)

    async def end(self, worker_id: str, family: str, lasts_ms: int) -> bool:
        """End what a family's access tokens are good for, here at once and at every node within moments.

        Arguments:
            worker_id: whose family it is.
            lasts_ms: for how long any of them could be taken.
        Returns:
            whether that is news.
        """

        def change(stored: Document | None) -> tuple[bool, Change | None]:
            now = self._now()
            known = {} if stored is None else _ended_in(stored, now)
            if family in known:
                return False, None
            rows = [*known.items(), (family, now + lasts_ms)][-_MOST_ENDED:]
            return True, Change(msgpack.packb(rows), lasts_ms)

        news = await change_document(self._store, ENDED, worker_id, change)
        if news:
            self._set_ended(self._ended | {family: worker_id})
        return news

    async def rotate(self, change: Callable[[Ring, int], Ring]) -> Ring:
        """Have another ring from now on, here at once and at every node within moments.

        Arguments:
            change: makes it of the newest one, and the time; what it raises ends this.
        Returns:
            the ring that is in force.
        """

        def changed(ring: Ring | None, now: int) -> Ring:
            return change(ring or Ring.new(now), now)

        self._use(await self._change_ring(changed))
        return self.ring

    async def look(self) -> None:
        """Return after a look at the store; who asks again within a second shares it.

        Raises:
            TimeoutError: the store does not answer.
        """
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= _LEAST_S:
            self._asked, self._asked_at = self._begun + 1, now
            self.hints.wake()
        async with asyncio.timeout(_PATIENCE_S), self._looked:
            await self._looked.wait_for(lambda: self._done >= self._asked)

    async def run(self) -> None:
        """Follow the store until cancelled; while it is away, what was read last counts."""
        while True:
            self._begun += 1
            wait = LOOK_EVERY_S
            try:
                await self._read()
            except StoreUnavailable as error:
                log.warning("signing keys and revoked tokens cannot be read: %s", error.message)
                wait = error.retry_after or _RETRY_S
            except ValueError:
                log.exception("the signing keys cannot be read, so no token can be issued or verified")
            async with self._looked:
                self._done = self._begun
                self._looked.notify_all()
            await self.hints.wait(wait)

    async def _read(self) -> None:
        def due(ring: Ring | None, now: int) -> Ring:
            return Ring.new(now) if ring is None else ring.due(now, self._schedule) or ring

        self._use(await self._change_ring(due))
        before, now = self._ended, self._now()
        ended = {family: one.key for one in await self._store.documents(ENDED) for family in _ended_in(one, now)}
        # What was ended here meanwhile is perhaps not among them.
        self._set_ended(ended | {family: whose for family, whose in self._ended.items() if family not in before})

    async def _change_ring(self, wanted: Callable[[Ring | None, int], Ring]) -> Ring:
        place = place_of(KEYS, RING)

        def change(stored: Document | None) -> tuple[tuple[Ring, bool], Change | None]:
            ring = None if stored is None else Ring.from_bytes(self._sealer.open(*place, stored.value))
            now = self._now()
            made = wanted(ring, now)
            # A ring lasts, and whoever took out the key that it was sealed with would lose it.
            outdated = stored is not None and self._sealer.outdated(stored.value)
            reseal = outdated and now - self._resealed_at >= RESEAL_EVERY_MS
            unchanged = made == ring and not reseal
            return (made, reseal), None if unchanged else Change(self._sealer.seal(*place, made.to_bytes()))

        made, resealed = await change_document(self._store, KEYS, RING, change)
        if resealed:
            self._resealed_at = self._now()
        return made

    def _use(self, ring: Ring) -> None:
        before, self._ring = self._ring, ring
        if before is None or before.keys[-1].kid != ring.keys[-1].kid:
            log.info("access tokens are signed with the key %s, from now on or soon", ring.keys[-1].kid)
        if before is not None and any(ring.find(key.kid) is None for key in before.keys):
            self._tell(None)

    def _set_ended(self, ended: dict[str, str]) -> None:
        more = frozenset(whose for family, whose in ended.items() if family not in self._ended)
        self._ended = ended
        if more:
            self._tell(more)

    def _tell(self, workers: frozenset[str] | None) -> None:
        for listener in self._listeners:
            listener(workers)


def _ended_in(document: Document, now: int) -> dict[str, int]:
    """The families that a worker's document says were ended, each with when that is of no matter any more."""
    return {family: until for family, until in msgpack.unpackb(document.value) if until > now}
