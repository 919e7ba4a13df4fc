"""Trees of jobs, as a holon below tells of them and as a client is shown them."""

from __future__ import annotations

import asyncio
from typing import Any

from holon.domain.tree import Summary
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.wire.trees import summary_message
from tests.integration.grpc_node import CLIENT_TOKEN, Node, Wire, hello, update, updates

BELOW = "below"
JOB, TASK = types_pb2.TREE_NODE_KIND_JOB, types_pb2.TREE_NODE_KIND_TASK
STRANGER = "the-token-of-a-stranger"
ANY = "job-below"


async def child(node: Node, *, answers: bool = True, **more: Any) -> Wire:
    wire = await node.stream("child")
    identity = worker_pb2.HolonIdentity(holon_id=BELOW, uplink_epoch=1)
    capabilities = [types_pb2.CAPABILITY_CANCEL, *([types_pb2.CAPABILITY_HOLON] if answers else [])]
    more |= {"instance_id": "i1", "holon_identity": identity, "capabilities": capabilities, "credits": 10}
    await wire.send(hello(**more))
    wire.welcome = await wire.expect("welcome")
    return wire


async def tree(node: Node, job_id: str, token: str = CLIENT_TOKEN, **more: Any) -> list[types_pb2.TreeNode]:
    request = job_pb2.GetJobTreeRequest(job_id=job_id, **more)
    metadata = (("x-client-token", token),)
    answer = await node.call("GetJobTree", request, job_pb2.GetJobTreeResponse.FromString, metadata)
    return list(answer.nodes)


def job_node(**more: Any) -> types_pb2.TreeNode:
    fields: dict[str, Any] = {"node_id": "1", "kind": JOB, "holon_id": BELOW, "job_id": ANY} | more
    return types_pb2.TreeNode(**fields)


def page(*nodes: types_pb2.TreeNode, **more: Any) -> worker_pb2.TreePage:
    return worker_pb2.TreePage(nodes=nodes, **more)


def said(told: worker_pb2.TreePage) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(tree_page=told)


def summary(**more: Any) -> types_pb2.JobSummary:
    told = types_pb2.JobSummary(holon_id=BELOW, job_id=ANY, status="running")
    told.as_of.GetCurrentTime()
    told.MergeFrom(types_pb2.JobSummary(**more))
    return told


async def working(node: Node, wire: Wire) -> tuple[str, worker_pb2.TaskOffer]:
    """A job whose task the child works on."""
    job_id = await node.create()
    offer = await wire.offer()
    await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
    return job_id, offer


async def answered(
    node: Node, wire: Wire, job_id: str, *answers: worker_pb2.TreePage, **more: Any
) -> list[types_pb2.TreeNode]:
    """The tree of a job, for which the child gives these answers."""
    asking = asyncio.create_task(tree(node, job_id, **more))
    request = await wire.expect("tree_request")
    for answer in answers:
        answer.request_id = answer.request_id or request.request_id
        await wire.send(said(answer))
    return await asking


def names(nodes: list[types_pb2.TreeNode]) -> list[str]:
    return [f"{'job' if node.kind == JOB else 'task'} {node.job_id if node.reported else ''}".strip() for node in nodes]


def came(told: Summary) -> bytes:
    """What is told of a job, as it comes."""
    return summary_message(told).SerializeToString()
