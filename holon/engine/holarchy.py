"""A holon's place among holons: its own id, the chain above it, and the holons that serve it as workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson

from holon.domain.holarchy import HolonIdentity, repeated
from holon.domain.value import Value
from holon.errors import Aborted, FailedPrecondition, NotFound, PermissionDenied, StoreUnavailable, Unavailable
from holon.ports import TRIES, Change, Document, DocumentHints, Shared, change_document, contended

log = logging.getLogger(__name__)

KIND = "holons"
# This holon's own id, and its parent's; a child's stands under the id that it has as a worker.
OWN = "own"
PARENT = "parent"
# Which process of a child is linked, at whichever node of this holon: it is forgotten with the node that had it.
LINKS = "holon_links"
LINK_MS = 10_000
# A hint can be lost: this is how long the chain above can then be another than is known here.
_RENEW_S = 3.0
_AGAIN_S = 5.0
# No id of a worker has more bytes, and so no pin is kept under a longer one.
_LONGEST_ID = 253


def child_key(worker_id: str) -> str:
    """Where the pin of a child is kept."""
    return f"worker {worker_id}"


class Chain(Value):
    """The line of holons above one: `ids`, root first, with its parent last.

    `most` is how many holons the line may have in all, further down too; None: nobody above has a limit.
    """

    ids: tuple[str, ...] = ()
    most: int | None = None


async def own_id(store: Shared) -> str:
    """The id of the holon that this store is of: written into it once, and the same for all of its nodes."""

    def change(document: Document | None) -> tuple[str, Change | None]:
        if document is not None:
            return str(orjson.loads(document.value)["holon_id"]), None
        own = str(uuid4())
        return own, Change(orjson.dumps({"holon_id": own}))

    return await change_document(store, KIND, OWN, change)


class Holarchy:
    """Says which holons may serve this one, and tells of each other's chains.

    Arguments:
        store: where pins are kept: which holon a worker was when it first came.
        own_id: of this holon.
        max_depth: how many holons one line of parents may have down to a child of this one; a lower limit of a
            holon above wins.
        has_parent: whether it is to serve one; who does not any more has nobody above, whatever it did before.

    Attributes:
        above: the holons above, root first, as the parent told last, be it to a process before this one.
        hints: is to be told when documents change; perhaps it is the chain above, by another node.
    """

    def __init__(self, store: Shared, own_id: str, max_depth: int, *, has_parent: bool = True) -> None:
        self.own_id = own_id
        self._has_parent = has_parent
        self._own_depth = max_depth
        self._chain = Chain()
        self._store = store
        self._linked: dict[str, HolonIdentity] = {}
        self._versions: dict[str, int] = {}
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
        document = await self._store.document(KIND, PARENT)
        if document is None:
            self._stands(Chain())
            return
        try:
            pin = _pin_in(document, "")
        except PermissionDenied as error:
            log.error("%s", error.message)
        else:
            self._stands(Chain(tuple(pin.get("above", (pin["holon_id"],))), pin.get("most")))

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
        """Every holon below this one, as far as its children here have told."""
        ids: dict[str, None] = {}
        for child in self._linked.values():
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
        pin = orjson.dumps({"holon_id": chain.ids[-1], "above": chain.ids, "most": chain.most})

        def change(document: Document | None) -> tuple[None, Change | None]:
            if document is None:
                return None, Change(pin)
            known = _pin_in(document, "")["holon_id"]
            if known != chain.ids[-1]:
                raise PermissionDenied(
                    f"the parent was holon {known} until now, and is {chain.ids[-1]}; if that is on purpose, run "
                    "`holon uplink accept` at this child of it",
                    code="HOLON_CHANGED",
                )
            return None, None if document.value == pin else Change(pin)

        await change_document(self._store, KIND, PARENT, change)
        self._stands(chain)

    async def admit(self, worker_id: str, identity: HolonIdentity) -> None:
        """Let a holon be this worker, and pin it; `left` is owed once its session is over.

        Raises:
            FailedPrecondition: HOLARCHY_CYCLE, or HOLARCHY_DEPTH.
            PermissionDenied: (HOLON_CHANGED) another holon was this worker before.
            Aborted: (UPLINK_STALE) a newer node of the holon has linked, or another with the same claim.
            Unavailable: (HOLON_LINKED) another process of the holon is linked here now, as this worker or another.
        """
        self.check_child(identity)
        await self._check_linked(worker_id, identity)
        key = child_key(worker_id)
        pin = orjson.dumps({"holon_id": identity.holon_id, "epoch": identity.epoch, "instance": identity.instance})

        def change(document: Document | None) -> tuple[None, Change | None]:
            if document is not None:
                _check_pin(worker_id, identity, _pin_in(document, worker_id))
            return None, None if document is not None and document.value == pin else Change(pin)

        # Who may not come is not noted as linked, and who is not linked is not pinned.
        change(await self._store.document(KIND, key))
        await self._link(worker_id, identity)
        await change_document(self._store, KIND, key, change)
        before = self.below
        self._linked[worker_id] = identity
        if self.below != before:
            self._changed()

    def check_child(self, identity: HolonIdentity) -> None:
        """Return when this holon may stand where it wants to; the chain above may have changed since it was let in.

        Raises:
            FailedPrecondition: HOLARCHY_CYCLE, or HOLARCHY_DEPTH.
        """
        _check((*self.above, self.own_id), identity.holon_id, identity.below, self.max_depth)

    async def _check_linked(self, worker_id: str, identity: HolonIdentity) -> None:
        """Return when this holon is linked as no other worker now."""
        linked = [one.key for one in await self._store.documents(LINKS) if one.key != worker_id]
        if not linked:
            return
        pins = {one.key: one for one in await self._store.documents(KIND)}
        for other in linked:
            pin = pins.get(child_key(other))
            # By its field: what else is there is the other's own word, and may be anything.
            if pin is not None and (_pin_of(pin) or {}).get("holon_id") == identity.holon_id:
                raise Unavailable(
                    f"holon {identity.holon_id} is linked as worker {other!r}: all of its nodes come as one worker, by "
                    "certificates of one name; if this one has another store, that is a copy",
                    code="HOLON_LINKED",
                    retry_after=_AGAIN_S,
                )

    async def _link(self, worker_id: str, identity: HolonIdentity) -> None:
        """Note that this process of a child is linked."""
        mark = identity.instance.encode()
        for _ in range(TRIES):
            link = await self._store.document(LINKS, worker_id)
            if link is not None and link.value != mark:
                raise Unavailable(
                    f"another process of holon {identity.holon_id} is linked as worker {worker_id!r}; if this one "
                    "belongs to the same store, it takes over once that one is gone; if not, its store was copied",
                    code="HOLON_LINKED",
                    retry_after=_AGAIN_S,
                )
            before = 0 if link is None else link.version
            version = await self._store.put_document(LINKS, worker_id, mark, version=before, expires_in=LINK_MS)
            if version is not None:
                self._versions[worker_id] = version
                return
        raise contended(LINKS)

    async def left(self, worker_id: str, identity: HolonIdentity) -> None:
        """The session of a child is over, unless a newer one has taken its place.

        A cancel does not keep that from being noted: the next process of the child would have to wait until it shows.
        """
        unlinking = asyncio.create_task(self._unlink(worker_id, identity), name=f"unlink-{worker_id}")
        self._unlinking.add(unlinking)
        unlinking.add_done_callback(self._unlinking.discard)
        await asyncio.shield(unlinking)

    async def _unlink(self, worker_id: str, identity: HolonIdentity) -> None:
        if self._linked.get(worker_id) is not identity:
            return
        try:
            await self._store.put_document(LINKS, worker_id, None, version=self._versions.pop(worker_id, 0))
        except StoreUnavailable as error:
            facts = {"worker_id": worker_id}
            log.warning("worker %s counts as linked for some seconds more: %s", worker_id, error.message, extra=facts)
        finally:
            if self._linked.get(worker_id) is identity:
                del self._linked[worker_id]
                self._changed()

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
                for worker_id, identity in tuple(self._linked.items()) if due else ():
                    await self._renew(worker_id, identity)
            except StoreUnavailable as error:
                log.warning("the links of holons are looked after later: %s", error.message)

    async def _renew(self, worker_id: str, identity: HolonIdentity) -> None:
        mark, version = identity.instance.encode(), self._versions.get(worker_id, 0)
        renewed = await self._store.put_document(LINKS, worker_id, mark, version=version, expires_in=LINK_MS)
        if renewed is None and await self._store.document(LINKS, worker_id) is None:
            # This node stood still for so long that it ran out.
            renewed = 0
        if renewed is not None and self._linked.get(worker_id) is identity:
            self._versions[worker_id] = renewed

    async def accept(self, worker_id: str) -> str:
        """Let another holon come in the place of a child or, without a worker's id, of the parent.

        Returns:
            the holon that was known so far; `unknown`, where what is stored of it cannot be read.
        Raises:
            NotFound: (HOLON_UNKNOWN) none is known there.
        """
        key = child_key(worker_id) if worker_id else PARENT

        def forget(document: Document | None) -> tuple[str, Change | None]:
            if document is None:
                return "", None
            try:
                return str(_pin_in(document, worker_id)["holon_id"]), Change(None)
            except PermissionDenied:
                return "unknown", Change(None)

        if len(worker_id.encode()) <= _LONGEST_ID and (known := await change_document(self._store, KIND, key, forget)):
            return known
        who = f"as worker {worker_id[:128]!r}" if worker_id else "as the parent"
        raise NotFound(f"no holon is known {who}: the next that comes is taken anyway", code="HOLON_UNKNOWN")

    def _stands(self, chain: Chain) -> None:
        if chain != self._chain:
            self._chain = chain
            self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()


def _pin_of(document: Document) -> dict[str, Any] | None:
    """What a pin says; None: it cannot be read."""
    try:
        pin = orjson.loads(document.value)
    except ValueError:
        return None
    return pin if isinstance(pin, dict) else None


def _pin_in(document: Document, worker_id: str) -> dict[str, Any]:
    """What the pin of a child says or, without a worker's id, that of the parent.

    Raises:
        PermissionDenied: (HOLON_CHANGED) it cannot be read: nobody can be told from another by it.
    """
    pin = _pin_of(document)
    if pin is not None and pin.get("holon_id"):
        return pin
    whose, how = "the parent", "`holon uplink accept` at this child of it"
    if worker_id:
        whose, how = f"worker {worker_id!r}", f"`holon uplink accept {worker_id}` at its parent"
    raise PermissionDenied(
        f"which holon {whose} was cannot be read in the store; to have the next one taken, run {how}",
        code="HOLON_CHANGED",
    )


def _check(above: tuple[str, ...], holon_id: str, below: tuple[str, ...], max_depth: int) -> None:
    twice = repeated((*above, holon_id, *below))
    if twice is not None:
        raise FailedPrecondition(
            f"holon {holon_id} cannot serve holon {above[-1]}: {twice} would be above and below itself; "
            "unset one PARENT_URL of that circle",
            code="HOLARCHY_CYCLE",
        )
    if len(above) + 1 > max_depth:
        raise FailedPrecondition(
            f"holon {holon_id} would be number {len(above) + 1} in its line of holons, over MAX_HOLARCHY_DEPTH of "
            f"{max_depth}: the lowest that is set in the line counts; raise that, or link this holon further up",
            code="HOLARCHY_DEPTH",
        )


def _check_pin(worker_id: str, identity: HolonIdentity, pin: dict[str, Any]) -> None:
    if pin["holon_id"] != identity.holon_id:
        raise PermissionDenied(
            f"worker {worker_id!r} was holon {pin['holon_id']} until now, and is {identity.holon_id}: if its store "
            f"was replaced on purpose, run `holon uplink accept {worker_id}` at its parent; if both are meant to be, "
            "each needs a certificate of its own",
            code="HOLON_CHANGED",
        )
    epoch, instance = pin.get("epoch"), pin.get("instance")
    if (identity.epoch, identity.instance) == (epoch, instance):
        return
    if not isinstance(epoch, int) or identity.epoch <= epoch:
        raise Aborted(
            f"worker {worker_id!r}: a process of its holon has linked with uplink epoch {epoch}, and this one comes "
            f"with {identity.epoch}: it has lost the link, or its store is a copy or was restored from one; if this is "
            f"the one that is meant, end the other and run `holon uplink accept {worker_id}` at its parent",
            code="UPLINK_STALE",
        )
