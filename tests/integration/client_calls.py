"""The client door as clients call it: what the tests of JobService share."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from holon.rxon.v1 import job_pb2
from tests.integration.grpc_node import (
    ENDED,
    Node,
)


def creation(**more: Any) -> job_pb2.CreateJobRequest:
    more.setdefault("blueprint_name", "relay")
    return job_pb2.CreateJobRequest(**more)


async def create(node: Node, **more: Any) -> job_pb2.CreateJobResponse:
    answer: job_pb2.CreateJobResponse = await node.call(
        "CreateJob", creation(**more), job_pb2.CreateJobResponse.FromString
    )
    return answer


async def refused(node: Node, method: str, request: Any, **more: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(ENDED) as error:
        await node.call(method, request, bytes, **more)
    return error.value
