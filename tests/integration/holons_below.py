"""Holons that come to a worker door."""

from __future__ import annotations

from typing import Any

from holon.rxon.v1 import worker_pb2
from tests.integration.grpc_node import Node, Wire, hello, offering


def identity(holon_id: str = "below", epoch: int = 1, *below: str) -> worker_pb2.HolonIdentity:
    return worker_pb2.HolonIdentity(holon_id=holon_id, uplink_epoch=epoch, holon_ids_below=below)


async def comes(node: Node, who: Any, worker_id: str = "child", instance: str = "i1") -> Wire:
    wire = await node.stream(worker_id)
    await wire.send(hello(offering("t"), instance_id=instance, holon_identity=who))
    wire.welcome = await wire.expect("welcome")
    return wire
