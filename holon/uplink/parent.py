"""The uplink: the parent at the other end: who it is, the chain above, and what this holon says of itself to it."""

from __future__ import annotations

import logging

import orjson

from holon.domain.holarchy import MAX_BELOW
from holon.engine.holarchy import KIND, PARENT, Holarchy, identity_in
from holon.errors import HolonError
from holon.ports import Shared
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.serving import Serving
from holon.wire.values import seconds
from holon.worker.channel import Ended
from holon.worker.leases import Lease
from holon.worker.link import Link

log = logging.getLogger(__name__)


class Parent:
    """Hears what the parent says, while one node of this holon links with it: the link's `Tasks`.

    Arguments:
        store: where the parent's id is kept since it was first seen.
        serving: who does what it asks for.
    """

    def __init__(self, store: Shared, holarchy: Holarchy, serving: Serving, link: Link, label: str, epoch: int) -> None:
        self._store = store
        self._holarchy = holarchy
        self._serving = serving
        self._link = link
        self._label = label
        self._epoch = epoch
        self._told_below: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Parent({self._link})"

    def identity(self) -> worker_pb2.HolonIdentity:
        """What the parent is told of this holon."""
        self._told_below = self._holarchy.below
        return worker_pb2.HolonIdentity(
            holon_id=self._holarchy.own_id,
            label=self._label,
            uplink_epoch=self._epoch,
            holon_ids_below=self._told_below[:MAX_BELOW],
        )

    def chain_changed(self) -> None:
        """There are others below this holon than before, perhaps; the parent is told."""
        if self._holarchy.below != self._told_below:
            self._link.introduce(self.identity())

    async def welcomed(self, welcome: worker_pb2.Welcome) -> None:
        """Go on with this parent if it is the one of before, and serving it closes no circle.

        Raises:
            Ended: it must not be.
        """
        if types_pb2.CAPABILITY_HOLON not in welcome.capabilities or not welcome.holon_id:
            raise Ended("the parent takes no holons; its version may be too old", refused=True)
        above = (*welcome.holon_ids_above, welcome.holon_id)
        try:
            self._holarchy.check_parent(above)
            await self._pin(welcome.holon_id)
        except HolonError as error:
            raise Ended(f"{error.code}: {error.message}", refused=error.retry_after is None) from error
        if welcome.HasField("accept_timeout"):
            self._serving.answer_in = seconds(welcome.accept_timeout)
        self._serving.parent_id = welcome.holon_id
        self._holarchy.serves(above)

    async def _pin(self, parent_id: str) -> None:
        while True:
            known = identity_in(await self._store.document(KIND, PARENT))
            if known == parent_id:
                return
            if known:
                raise Ended(
                    f"HOLON_CHANGED: the parent was holon {known} until now, and is {parent_id}; if that is on "
                    "purpose, run `holon uplink accept` at this node",
                    refused=True,
                )
            await self._store.put_document(KIND, PARENT, orjson.dumps({"holon_id": parent_id}), version=0)

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """A task is offered."""
        self._serving.offered(lease, offer)

    def stopped(self, lease: Lease, reason: str, grace: float) -> None:  # noqa: ARG002  a job cleans up in its own time
        """Work is to stop."""
        self._serving.stopped(lease, reason)

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """A lease goes on."""
        self._serving.resumed(lease, time_left)

    def settled(self, lease: Lease, committed: bool) -> None:
        """A result was answered for good."""
        self._serving.settled(lease, committed)
