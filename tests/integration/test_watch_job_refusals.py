"""WatchJob: what is refused, and with which reason."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from holon.rxon.v1 import job_pb2
from tests.integration.grpc_node import CLIENT, JOBS, Node, fields_of, reason_of
from tests.integration.watching import Watch, watch

CODE = grpc.StatusCode


@pytest.mark.parametrize(("after", "field"), [(99, "after_sequence"), (-1, "after_sequence")])
async def test_a_sequence_that_the_job_does_not_have_is_refused(node: Node, after: int, field: str) -> None:
    error = await watch(node, await node.create(), after).refused()
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(("more", "field"), [({"streams": ["stdout"]}, "streams")])
async def test_what_is_not_there_yet_is_refused_by_name(node: Node, more: dict[str, Any], field: str) -> None:
    request = job_pb2.WatchJobRequest(job_id=await node.create(), **more)
    stream = Watch(node.channel, "")
    stream.call.cancel()
    method: Any = node.channel.unary_stream
    stream.call = method(JOBS + "WatchJob")(request.SerializeToString(), metadata=CLIENT)
    error = await stream.refused()
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])


async def test_an_unknown_job_or_none_is_not_found(node: Node) -> None:
    for job_id in ("0-nothing", ""):
        error = await watch(node, job_id).refused()
        assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "JOB_NOT_FOUND")
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def test_without_a_token_nothing_is_told(node: Node) -> None:
    error = await Watch(node.channel, await node.create(), metadata=()).refused()
    assert reason_of(error) == "TOKEN_INVALID"


async def test_a_malformed_request_is_refused_with_a_reason(node: Node) -> None:
    method: Any = node.channel.unary_stream
    stream = Watch(node.channel, "")
    stream.call.cancel()
    stream.call = method(JOBS + "WatchJob")(b"\xff\xff\xff", metadata=CLIENT)
    assert reason_of(await stream.refused()) == "MALFORMED_FRAME"
