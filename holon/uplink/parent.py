"""The uplink: the parent at the other end: who it is, the chain above, and what this holon says of itself to it."""

from __future__ import annotations

import asyncio
import logging

from holon.domain.holarchy import MAX_BELOW, MAX_DEPTH, Chain, claim_of
from holon.engine.holarchy import Holarchy
from holon.errors import HolonError
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.serving import Serving
from holon.wire.grpc_status import info_of
from holon.wire.values import is_id, seconds
from holon.worker.channel import Ended
from holon.worker.leases import Lease
from holon.worker.link import Link

log = logging.getLogger(__name__)

# Another stream says who is below, and so do those of all who are above: not each time that a child comes and goes.
INTRODUCE_EVERY_S = 3.0


class Parent:
    """Hears what the parent says, while one node of this holon links with it: the link's `Tasks`.

    Arguments:
        serving: who does what it asks for.
    """

    def __init__(self, holarchy: Holarchy, serving: Serving, link: Link, label: str, epoch: int) -> None:
        self._holarchy = holarchy
        self._serving = serving
        self._link = link
        self._label = label
        self._epoch = epoch
        self._told_below: tuple[str, ...] = ()
        self._is_served = False
        self._changed = asyncio.Event()

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
        """There are others above or below this holon than before, perhaps; `run` sees to it."""
        self._changed.set()

    async def run(self) -> None:
        """Tell the parent who is below, when that has changed, until cancelled; at once, but not often.

        And be told anew who is above, when that was forgotten while the parent is served: an operator has the next
        that comes taken, and until then nobody would keep those from coming below.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            forgotten = self._is_served and not self._holarchy.above
            if forgotten or self._holarchy.below != self._told_below:
                self._link.introduce(self.identity())
                await asyncio.sleep(INTRODUCE_EVERY_S)

    async def welcomed(self, welcome: worker_pb2.Welcome) -> None:
        """Go on with this parent if it is the one of before, and serving it closes no circle.

        Raises:
            Ended: it must not be.
        """
        if types_pb2.CAPABILITY_HOLON not in welcome.capabilities or not welcome.holon_id:
            raise Ended("the parent does not support child holons; its version may be too old", refused=True)
        chain = _chain_of(welcome)
        if chain.ids[-2:-1] == (self._holarchy.own_id,):
            raise Ended("since a moment ago, the parent links to this holon; its next answer says which link stays")
        try:
            await self._holarchy.serve(chain)
        except HolonError as error:
            raise Ended(f"{error.code}: {error.message}", refused=error.retry_after is None) from error
        self._is_served = True
        answer_in = seconds(welcome.accept_timeout) if welcome.HasField("accept_timeout") else None
        self._serving.welcomed(welcome.holon_id, answer_in)

    async def refused(self, end: Ended) -> bool:
        """A session with the parent ended, or did not come to be; whether another attempt may soon succeed after this.

        If the parent serves this holon too, one of the two links stays.
        """
        reason, metadata = info_of(end.status)
        claim = claim_of(metadata) if reason == "HOLARCHY_CYCLE" else None
        if claim is None or not is_id(claim.holon_id):
            return False
        try:
            has_changed = await self._holarchy.contested(claim)
        except HolonError as error:
            log.warning("the node decides later which of two links stays: %s", error.message)
            return False
        if has_changed:
            # The next Hello must not name the parent among those below.
            self._link.introduce(self.identity())
        return has_changed

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """A task is offered."""
        if not self._holarchy.is_used:
            self._serving.jobs.start(self._note_used(), "uplink-used")
        self._serving.taking.offered(lease, offer)

    async def _note_used(self) -> None:
        try:
            await self._holarchy.used()
        except HolonError as error:
            log.debug("the use of the link to the parent is noted later: %s", error.message)

    def stopped(self, lease: Lease, reason: str, grace: float) -> None:  # noqa: ARG002  a job cleans up in its own time
        """Work is to stop."""
        self._serving.stopped(lease, reason)

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """A lease goes on."""
        self._serving.resumed(lease, time_left)

    def alive(self) -> list[Lease] | None:
        """The leases to be extended; None: all."""
        return self._serving.alive()

    def settled(self, lease: Lease, committed: bool) -> None:
        """A result was answered for good."""
        self._serving.settled(lease, committed)


def _chain_of(welcome: worker_pb2.Welcome) -> Chain:
    """The chain that ends with the parent.

    Raises:
        Ended: it has what is no id of a holon, or more of them than any chain may have.
    """
    ids = (*welcome.holon_ids_above, welcome.holon_id)
    if len(ids) > MAX_DEPTH or not all(is_id(one) for one in ids):
        raise Ended(f"the parent names {len(ids)} holons above this one, or one with an invalid id", refused=True)
    most = len(ids) + welcome.max_holarchy_depth if welcome.HasField("max_holarchy_depth") else None
    return Chain(ids, most)
