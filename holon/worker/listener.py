"""The worker SDK: who hears what a node says on a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holon.rxon.v1 import worker_pb2
from holon.worker.leases import Lease


class Listener(Protocol):
    """Who owns sessions and hears what the node says on them. Called on the session's loop; must not block."""

    def on_offers(self, offers: worker_pb2.TaskOffers) -> None:
        """The node offers tasks."""

    def on_acks(self, acks: worker_pb2.UpdateAcks) -> None:
        """The node answers results."""

    def on_stops(self, stops: worker_pb2.StopTasks) -> None:
        """The node wants work to stop."""

    def on_tree(self, request: worker_pb2.TreeRequest) -> bool:
        """The node asks about the job behind a task; False when nobody answers that."""

    def on_resolve(self, request: worker_pb2.ResolveRequest) -> bool:
        """The node passes a decision down; False when nobody takes that."""

    def alive(self) -> Sequence[Lease] | None:
        """The leases that a heartbeat is to extend; None: all that were accepted."""

    def load(self) -> worker_pb2.WorkerLoad | None:
        """How busy the machine is, for a heartbeat; None: nothing is told of it."""

    def on_unknown(self, kind: str) -> None:
        """The node said something that this version does not know, or did not ask for."""
