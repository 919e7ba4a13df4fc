"""A holon's place among holons: the chain above it, and the holons that serve it as workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from holon.domain.holarchy import Chain, HolonIdentity, LinkClaim, repeated
from holon.engine.claims import Claims, elsewhere
from holon.engine.links import Links
from holon.engine.pins import KIND, Pins
from holon.errors import FailedPrecondition, HolonError, NotFound, PermissionDenied, StoreUnavailable
from holon.ports import DocumentHints, Shared

log = logging.getLogger(__name__)

# A hint can be lost: this is how long the chain above can then be another than is known here.
_RENEW_S = 3.0


class Holarchy:
    """Says which holons may serve this one, and tells of each other's chains.

    Arguments:
        store: where pins are kept: which holon a worker was when it first came.
        own_id: of this holon.
        max_depth: how many holons one line of parents may have down to a child of this one; a lower limit of a
            holon above wins.
        has_parent: whether it is to serve one; who does not any more has nobody above, whatever it did before.
        made_at: when the store of this holon was made, in epoch milliseconds; 0: that is not known.

    Attributes:
        above: the holons above, root first, as the parent told last, be it to a process before this one.
        is_used: whether a task has come over the link with the parent, as far as is known here.
        hints: is to be told when documents change; perhaps it is the chain above, by another node.
    """

    def __init__(
        self, store: Shared, own_id: str, max_depth: int, *, has_parent: bool = True, made_at: int = 0
    ) -> None:
        self.own_id = own_id
        self._made_at = made_at
        self.is_used = False
        self._has_parent = has_parent
        self._own_depth = max_depth
        self._chain = Chain()
        self._pins = Pins(store)
        self._claims = Claims(store)
        self._links = Links(store)
        self._linked: dict[str, HolonIdentity] = {}
        self._unlinking: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[], None]] = []
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Holarchy({self.own_id}, above={len(self.above)}, children={len(self._linked)})"

    async def recall(self) -> None:
        """Know the chain above as it was, while the parent is not linked yet: nobody who is in it may come as a child.

        Also what another node of this holon, which links, was told of it; or that another parent is to be taken.
        """
        if not self._has_parent:
            return
        try:
            parent = await self._pins.parent()
        except PermissionDenied as error:
            log.error("%s", error.message)
            return
        self.is_used = parent.is_used
        self._stands(parent.chain)

    @property
    def above(self) -> tuple[str, ...]:
        return self._chain.ids

    @property
    def parent_id(self) -> str:
        """The parent that this holon serves, or served last; empty where none is known."""
        return self._chain.ids[-1] if self._chain.ids else ""

    @property
    def max_depth(self) -> int:
        """How many holons the line may have that this one is in."""
        most = self._chain.most
        return self._own_depth if most is None else min(self._own_depth, most)

    @property
    def below(self) -> tuple[str, ...]:
        """Every holon below this one, as far as its children here have told, without a child that is above as well."""
        ids: dict[str, None] = {}
        for child in self._linked.values():
            if child.holon_id in self.above:
                continue
            ids.update(dict.fromkeys((child.holon_id, *child.below)))
        return tuple(ids)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have this called whenever the chain above, or what is below, has become another."""
        self._listeners.append(listener)

    async def serve(self, chain: Chain) -> None:
        """Serve the last one of a chain from now on, and pin it. Children for whom that has no room are told to go.

        What children say of holons below them is no reason to leave a parent: whoever says so goes, if it is true or
        not.

        Raises:
            FailedPrecondition: HOLARCHY_CYCLE, or HOLARCHY_DEPTH.
            PermissionDenied: (HOLON_CHANGED) another holon was the parent before.
        """
        most = self._own_depth if chain.most is None else min(self._own_depth, chain.most)
        _check(chain.ids, self.own_id, (), most)
        await self._pins.pin_parent(chain)
        if chain.ids[-1] != self.parent_id:
            self.is_used = False
        self._stands(chain)

    async def used(self) -> None:
        """A task has come over the link with the parent."""
        self.is_used = True
        try:
            await self._pins.use_parent()
        except HolonError:
            self.is_used = False
            raise

    async def contested(self, other: LinkClaim) -> bool:
        """Have one of two links stay: the holon that is to be the parent serves this one already, or is to.

        What this holon gives up, it gives up on the word of its parent alone.

        Arguments:
            other: what speaks for the link of that holon.

        Returns:
            whether anything has changed here.
        Raises:
            FailedPrecondition: HOLARCHY_CYCLE, or HOLARCHY_DEPTH.
            PermissionDenied: (HOLON_CHANGED) another holon was the parent before.
        """
        if self._claim(other.holon_id).precedes(other):
            if self.parent_id == other.holon_id:
                return False
            log.info("holon %s becomes the parent: its own link to this holon is refused", other.holon_id)
            await self.serve(Chain((other.holon_id,)))
            return True
        if self.parent_id == other.holon_id:
            log.warning("holon %s is no longer the parent: it links to this holon", other.holon_id)
            await self._pins.leave_parent(other.holon_id)
            await self.recall()
        return False

    def _claim(self, parent_id: str) -> LinkClaim:
        """What speaks for the link of this holon with a parent."""
        return LinkClaim(self.own_id, self._made_at, self.is_used and self.parent_id == parent_id)

    async def admit(self, worker_id: str, identity: HolonIdentity) -> None:
        """Let a holon be this worker, and pin it; `left` is owed once its session is over.

        Raises:
            FailedPrecondition: HOLARCHY_CYCLE, HOLARCHY_DEPTH, or UPLINK_AHEAD: its epoch is too far ahead.
            PermissionDenied: (HOLON_CHANGED) another holon was this worker before, or the holon another worker.
            Aborted: (UPLINK_STALE) a newer node of the holon has linked, or another with the same claim.
            Unavailable: (HOLON_LINKED) another process of the holon is linked now.
        """
        self.check_child(identity)
        # Who may not come is not noted as linked, and who is not linked is not pinned.
        is_pinned = await self._pins.check_child(worker_id, identity)
        if not await self._claims.check(worker_id, identity.holon_id):
            await self._check_unclaimed(worker_id, identity.holon_id, is_pinned=is_pinned)
        await self._links.link(worker_id, identity)
        try:
            if not is_pinned:
                # A worker is one holon: it may have been let in as another halfway, and then have been cut off.
                await self._claims.forget(worker_id, but=identity.holon_id)
            await self._claims.claim(worker_id, identity.holon_id)
            await self._pins.pin_child(worker_id, identity)
        except BaseException:
            if worker_id not in self._linked:
                await self._whatever_happens(self._unlink(worker_id, identity), worker_id)
            raise
        before = self.below
        self._linked[worker_id] = identity
        if self.below != before:
            self._changed()

    def check_child(self, identity: HolonIdentity) -> None:
        """Return when this holon may stand where it wants to; the chain above may have changed since it was let in.

        Raises:
            FailedPrecondition: HOLARCHY_CYCLE, or HOLARCHY_DEPTH.
        """
        own = self._claim(identity.holon_id) if identity.holon_id == self.parent_id else None
        _check((*self.above, self.own_id), identity.holon_id, identity.below, self.max_depth, own)

    async def _check_unclaimed(self, worker_id: str, holon_id: str, *, is_pinned: bool) -> None:
        """Return when a holon that no worker has claimed may be this one.

        It may be linked as another for which the next one is to be taken; or it was pinned before there were claims.
        """
        await self._links.check_elsewhere(worker_id, holon_id)
        other = "" if is_pinned else await self._pins.worker_of(holon_id)
        if other:
            raise elsewhere(worker_id, holon_id, other)

    async def left(self, worker_id: str, identity: HolonIdentity) -> None:
        """The session of a child is over, unless a newer one has taken its place.

        A cancel does not keep that from being noted: the next process of the child would have to wait until it shows.
        """
        await self._whatever_happens(self._leave(worker_id, identity), worker_id)

    async def _whatever_happens(self, unlinking: Coroutine[Any, Any, None], worker_id: str) -> None:
        task = asyncio.create_task(unlinking, name=f"unlink-{worker_id}")
        self._unlinking.add(task)
        task.add_done_callback(self._unlinking.discard)
        await asyncio.shield(task)

    async def _leave(self, worker_id: str, identity: HolonIdentity) -> None:
        if self._linked.get(worker_id) is not identity:
            return
        try:
            await self._unlink(worker_id, identity)
        finally:
            if self._linked.get(worker_id) is identity:
                del self._linked[worker_id]
                self._changed()

    async def _unlink(self, worker_id: str, identity: HolonIdentity) -> None:
        try:
            await self._links.unlink(worker_id, identity)
        except StoreUnavailable as error:
            facts = {"worker_id": worker_id}
            log.warning("worker %s counts as linked for some more seconds: %s", worker_id, error.message, extra=facts)

    async def run(self) -> None:
        """Keep it known which children are linked here, and know the chain above, until cancelled."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time()
        while True:
            await self.hints.wait(renew_at - loop.time())
            due = loop.time() >= renew_at
            if due:
                renew_at = loop.time() + _RENEW_S
            try:
                await self.recall()
                if due:
                    await self._links.renew(self._linked)
            except HolonError as error:
                log.warning("the links of holons are checked later: %s", error.message)

    async def accept(self, worker_id: str) -> str:
        """Let another holon come in the place of a child or, without a worker's id, of the parent.

        The holon that was this worker may come as another worker then. One that is linked stays.

        Returns:
            the holon that was known so far; `unknown`, where what is stored of it cannot be read.
        Raises:
            NotFound: (HOLON_UNKNOWN) none is known there.
        """
        pinned = await self._pins.forget(worker_id)
        claimed = await self._claims.forget(worker_id) if worker_id else ""
        if known := pinned or claimed:
            return known
        who = f"as worker {worker_id[:128]!r}" if worker_id else "as the parent"
        raise NotFound(
            f"no holon is known {who}, so the next one that connects is accepted anyway", code="HOLON_UNKNOWN"
        )

    def _stands(self, chain: Chain) -> None:
        if chain != self._chain:
            self._chain = chain
            self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()


def _check(
    above: tuple[str, ...], holon_id: str, below: tuple[str, ...], max_depth: int, claim: LinkClaim | None = None
) -> None:
    """Return when a holon may stand below these.

    Arguments:
        claim: what speaks for the link of the last one above with this holon, if that is its parent.
    """
    twice = repeated((*above, holon_id, *below))
    if twice is not None:
        raise FailedPrecondition(
            f"holon {holon_id} cannot serve holon {above[-1]}, because {twice} would be above and below itself; "
            "unset one PARENT_URL of the cycle",
            code="HOLARCHY_CYCLE",
            metadata={} if claim is None else claim.told(),
        )
    if len(above) + 1 > max_depth:
        raise FailedPrecondition(
            f"holon {holon_id} would be number {len(above) + 1} in its line of holons, over MAX_HOLARCHY_DEPTH of "
            f"{max_depth} (the lowest in the line counts); raise that, or link this holon higher up",
            code="HOLARCHY_DEPTH",
        )
