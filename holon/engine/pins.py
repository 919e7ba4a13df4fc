"""Which holon this one is, and which its parent and its children are: pinned in the store from the first time on."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson

from holon.domain.fleet import MAX_WORKER_ID
from holon.domain.holarchy import Chain, HolonIdentity
from holon.domain.value import Value
from holon.errors import Aborted, FailedPrecondition, PermissionDenied
from holon.ports import Change, Document, Shared, Storage, change_document

KIND = "holons"
# How far an epoch may be ahead of the last one, beside one for each second since: some takes come to nothing.
EPOCHS_AHEAD = 1_000
# This holon's own id, and its parent's; a child's stands under the id that it has as a worker.
OWN = "own"
PARENT = "parent"
_CHILD = "worker "


def child_key(worker_id: str) -> str:
    """Where the pin of a child is kept."""
    return f"{_CHILD}{worker_id}"


class OwnHolon(Value):
    """The holon that a store is of. `made_at` is when the store was made, in epoch milliseconds; 0: nobody noted it."""

    id: str
    made_at: int


async def own_holon(store: Shared, now: int) -> OwnHolon:
    """The holon that this store is of: written into it once, and the same for all of its nodes.

    Arguments:
        now: the store's clock, in epoch milliseconds.
    """

    def change(document: Document | None) -> tuple[OwnHolon, Change | None]:
        if document is not None:
            known = orjson.loads(document.value)
            return OwnHolon(str(known["holon_id"]), int(known.get("made_at", 0))), None
        own = OwnHolon(str(uuid4()), now)
        return own, Change(orjson.dumps({"holon_id": own.id, "made_at": own.made_at}))

    return await change_document(store, KIND, OWN, change)


async def own_id(store: Storage) -> str:
    """The id of the holon that this store is of."""
    return (await own_holon(store, store.now())).id


class Parent(Value):
    """The chain above a holon, and whether a task has gone over the link with the last one of it."""

    chain: Chain = Chain()
    is_used: bool = False


class Pins:
    """The pins of a holon, in the store that its nodes share."""

    def __init__(self, store: Shared) -> None:
        self._store = store

    def __repr__(self) -> str:
        return "Pins()"

    async def parent(self) -> Parent:
        """The parent, and the chain above as it told it last; nobody where none was pinned.

        Raises:
            PermissionDenied: (HOLON_CHANGED) what is stored cannot be read.
        """
        document = await self._store.document(KIND, PARENT)
        if document is None:
            return Parent()
        pin = _pin_in(document, "")
        chain = Chain(tuple(pin.get("above", (pin["holon_id"],))), pin.get("most"))
        return Parent(chain, pin.get("used") is True)

    async def pin_parent(self, chain: Chain) -> None:
        """Serve the last one of this chain, and no other from now on.

        Raises:
            PermissionDenied: (HOLON_CHANGED) another holon was the parent before.
        """
        pin: dict[str, Any] = {"holon_id": chain.ids[-1], "above": chain.ids, "most": chain.most}

        def change(document: Document | None) -> tuple[None, Change | None]:
            if document is None:
                return None, Change(orjson.dumps(pin))
            known = _pin_in(document, "")
            if known["holon_id"] != chain.ids[-1]:
                raise PermissionDenied(
                    f"the parent was holon {known['holon_id']} before, and is now {chain.ids[-1]}; if this is on "
                    "purpose, run `holon uplink accept` on this child",
                    code="HOLON_CHANGED",
                )
            again = orjson.dumps(pin | {"used": True} if known.get("used") is True else pin)
            return None, None if document.value == again else Change(again)

        await change_document(self._store, KIND, PARENT, change)

    async def use_parent(self) -> None:
        """Note that a task has gone over the link with the parent."""

        def change(document: Document | None) -> tuple[None, Change | None]:
            pin = None if document is None else _pin_of(document)
            if pin is None or pin.get("used") is True:
                return None, None
            return None, Change(orjson.dumps(pin | {"used": True}))

        await change_document(self._store, KIND, PARENT, change)

    async def leave_parent(self, holon_id: str) -> None:
        """Forget the parent, if it is this holon."""

        def change(document: Document | None) -> tuple[None, Change | None]:
            pin = None if document is None else _pin_of(document)
            return None, Change(None) if pin is not None and pin.get("holon_id") == holon_id else None

        await change_document(self._store, KIND, PARENT, change)

    async def check_child(self, worker_id: str, identity: HolonIdentity) -> bool:
        """Whether this holon is pinned as this worker; raises as `pin_child`."""
        document = await self._store.document(KIND, child_key(worker_id))
        if document is not None:
            _check_pin(worker_id, identity, _pin_in(document, worker_id), self._store.now())
        return document is not None

    async def pin_child(self, worker_id: str, identity: HolonIdentity) -> None:
        """Have this holon, by this process of it, be this worker.

        Raises:
            PermissionDenied: (HOLON_CHANGED) another holon was this worker before.
            Aborted: (UPLINK_STALE) a newer node of the holon has linked, or another with the same claim.
            FailedPrecondition: (UPLINK_AHEAD) the epoch is further ahead of the last one than it can have risen.
        """
        now = self._store.now()
        pin = {"holon_id": identity.holon_id, "epoch": identity.epoch, "instance": identity.instance, "at": now}

        def change(document: Document | None) -> tuple[None, Change | None]:
            known = document is not None and _check_pin(worker_id, identity, _pin_in(document, worker_id), now)
            return None, None if known else Change(orjson.dumps(pin))

        await change_document(self._store, KIND, child_key(worker_id), change)

    async def worker_of(self, holon_id: str) -> str:
        """A worker that this holon is pinned as; empty if there is none."""
        for one in await self._store.documents(KIND):
            # By its field: what else is there is the child's own word, and may be anything.
            if one.key.startswith(_CHILD) and (_pin_of(one) or {}).get("holon_id") == holon_id:
                return one.key.removeprefix(_CHILD)
        return ""

    async def forget(self, worker_id: str) -> str:
        """Forget which holon a child was or, without a worker's id, the parent.

        Returns:
            the holon; `unknown`, where what is stored of it cannot be read; empty, where there is nothing.
        """
        key = child_key(worker_id) if worker_id else PARENT

        def forget(document: Document | None) -> tuple[str, Change | None]:
            if document is None:
                return "", None
            try:
                return str(_pin_in(document, worker_id)["holon_id"]), Change(None)
            except PermissionDenied:
                return "unknown", Change(None)

        if len(worker_id.encode()) > MAX_WORKER_ID:
            return ""
        return await change_document(self._store, KIND, key, forget)


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
    whose, how = "the parent", "`holon uplink accept` on this child"
    if worker_id:
        whose, how = f"worker {worker_id!r}", f"`holon uplink accept {worker_id}` on its parent"
    raise PermissionDenied(
        f"the store does not say readably which holon {whose} was; to accept the next one, run {how}",
        code="HOLON_CHANGED",
    )


def _check_pin(worker_id: str, identity: HolonIdentity, pin: dict[str, Any], now: int) -> bool:
    """Whether a pin is of this very process and epoch; raises as `Pins.pin_child` when it rules the holon out."""
    if pin["holon_id"] != identity.holon_id:
        raise PermissionDenied(
            f"worker {worker_id!r} was holon {pin['holon_id']} before, and is now {identity.holon_id}. If its store "
            f"was replaced on purpose, run `holon uplink accept {worker_id}` on its parent; if these are two holons, "
            "each needs its own certificate",
            code="HOLON_CHANGED",
        )
    epoch, instance = pin.get("epoch"), pin.get("instance")
    if (identity.epoch, identity.instance) == (epoch, instance):
        return True
    if not isinstance(epoch, int) or identity.epoch <= epoch:
        raise Aborted(
            f"worker {worker_id!r}: a process of its holon has linked with uplink epoch {epoch}, but this one has "
            f"{identity.epoch}. It has lost the link, or its store is a copy or was restored from one. If this is "
            f"the right one, end the other and run `holon uplink accept {worker_id}` on its parent",
            code="UPLINK_STALE",
        )
    # Else one Hello with the highest number there is would shut the holon out for good.
    most = epoch + EPOCHS_AHEAD + max(0, now - pin.get("at", 0)) // 1000
    if identity.epoch > most:
        raise FailedPrecondition(
            f"worker {worker_id!r}: its holon has uplink epoch {identity.epoch}, but the last one was {epoch}. An "
            f"epoch rises by one with each change of the linked node, so at most {most} is accepted now. If this is "
            f"the right holon, run `holon uplink accept {worker_id}` on its parent",
            code="UPLINK_AHEAD",
        )
    return False
