"""Calls of NodeService."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.rxon.v1 import node_pb2, worker_pb2
from tests.integration.grpc_node import (
    CLIENT,
    ENDED,
    GUARD,
    Node,
    Wire,
    result,
    updates,
)

CODE = grpc.StatusCode
NODES = "/holon.rxon.v1.NodeService/"
METHODS = (
    "GetNode", "ListBlueprints", "GetBlueprint", "ListWorkers", "GetWorkerHistory", "ListSkills", "GetStats",
    "DrainNode", "DrainWorker", "ReloadNode", "AcceptHolon", "RotateTokens", "GetWebhookSecret",
)  # fmt: skip


async def ask(
    node: Node, method: str, request: Any, kind: Callable[[bytes], Any] = bytes, metadata: Any = CLIENT
) -> Any:
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = node.channel.unary_unary
    return kind(await call(NODES + method)(raw, metadata=metadata, timeout=GUARD))


async def refused(node: Node, method: str, request: Any, **more: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(ENDED) as error:
        await ask(node, method, request, **more)
    return error.value


async def workers(node: Node, **more: Any) -> list[node_pb2.WorkerInfo]:
    request = node_pb2.ListWorkersRequest(**more)
    return list((await ask(node, "ListWorkers", request, node_pb2.ListWorkersResponse.FromString)).workers)


async def skills(node: Node, **more: Any) -> list[node_pb2.Skill]:
    request = node_pb2.ListSkillsRequest(**more)
    return list((await ask(node, "ListSkills", request, node_pb2.ListSkillsResponse.FromString)).skills)


async def drain(node: Node, worker_id: str, **more: Any) -> node_pb2.WorkerInfo:
    request = node_pb2.DrainWorkerRequest(worker_id=worker_id, **more)
    answer = await ask(node, "DrainWorker", request, node_pb2.DrainWorkerResponse.FromString)
    worker: node_pb2.WorkerInfo = answer.worker
    return worker


async def finish(worker: Wire, offer: worker_pb2.TaskOffer) -> None:
    await worker.send(updates(result(offer, {"done": True})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
