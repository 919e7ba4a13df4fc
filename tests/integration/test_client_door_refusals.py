"""The client door: what it refuses, and what it says when the fault is ours."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from holon.engine import paging
from holon.engine.holarchy import Holarchy
from holon.engine.overview import Overview
from holon.engine.reloading import Reloading
from holon.errors import ConfigError, HolonError, StoreUnavailable
from holon.rxon.v1 import job_pb2, types_pb2
from holon.security.clients import Clients, sole
from holon.transports.grpc.client_door import ClientDoor
from holon.transports.grpc.settings import DoorSettings
from tests.integration.client_calls import creation, refused
from tests.integration.grpc_node import (
    CLIENT,
    CLIENT_TOKEN,
    ENDED,
    GUARD,
    Node,
    details_of,
    fields_of,
    json_payload,
    offering,
    reason_of,
    result,
    updates,
)

CODE = grpc.StatusCode
ROOT = Path(__file__).resolve().parents[2]


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("x-client-token", "another"),),
        (("x-worker-token", CLIENT_TOKEN),),
        (("authorization", CLIENT_TOKEN),),
        (("x-client-token", CLIENT_TOKEN), ("authorization", f"Bearer {CLIENT_TOKEN}")),
        (("authorization", f"Bearer {CLIENT_TOKEN}"), ("authorization", f"Bearer {CLIENT_TOKEN}")),
    ],
)
async def test_a_missing_wrong_or_doubled_token_is_refused(node: Node, metadata: tuple[tuple[str, str], ...]) -> None:
    error = await refused(node, "CreateJob", creation(), metadata=metadata)
    assert (error.code(), reason_of(error)) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
    assert CLIENT_TOKEN not in str(error)


async def test_a_bearer_token_is_taken_too(node: Node) -> None:
    metadata = (("authorization", f"bearer {CLIENT_TOKEN}"),)
    assert await node.call("ListJobs", job_pb2.ListJobsRequest(), bytes, metadata=metadata) == b""


@pytest.mark.parametrize("method", ["GetJob", "CancelJob", "GetJobHistory"])
async def test_an_unknown_job_is_not_found(node: Node, method: str) -> None:
    error = await refused(node, method, job_pb2.GetJobRequest(job_id="0-nothing"))
    assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (creation(webhook_url="http://example.org"), "webhook_url"),
        (creation(priority=math.inf), "priority"),
        (creation(priority=100.1), "priority"),
        (creation(skill_limit=types_pb2.SkillLimit(skills=[""])), "skill_limit"),
        (creation(skill_limit=types_pb2.SkillLimit(skills=["a"], no_skills=True)), "skill_limit.no_skills"),
        (creation(trace=types_pb2.TraceContext(traceparent="x")), "trace.traceparent"),
        (creation(max_transitions=0), "max_transitions"),
        (creation(max_transitions=1_001), "max_transitions"),
        (creation(dispatch_timeout=Duration(seconds=-1)), "dispatch_timeout"),
        (creation(result_timeout=Duration()), "result_timeout"),
        (creation(dispatch_timeout=Duration(seconds=5, nanos=-5)), "dispatch_timeout"),
        (creation(result_timeout=Duration(seconds=5, nanos=10**9)), "result_timeout"),
        (creation(request_id="x" * 129), "request_id"),
        (creation(initial_data=types_pb2.Payload(data=b"{}", encoding="zstd")), "initial_data"),
        (creation(initial_data=types_pb2.Payload(data=b"x", media_type="text/plain")), "initial_data"),
        (creation(initial_data=types_pb2.Payload(ref=types_pb2.FileRef(uri="x"))), "initial_data"),
        (creation(initial_data=json_payload([1])), "initial_data"),
        (creation(initial_data=json_payload(None)), "initial_data"),
    ],
)
async def test_what_a_creation_cannot_have_is_refused_by_name(
    node: Node, request_: job_pb2.CreateJobRequest, field: str
) -> None:
    error = await refused(node, "CreateJob", request_)
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])
    assert field in str(error.details())


async def test_a_reason_of_a_cancel_that_is_too_long_is_refused_by_name(node: Node) -> None:
    error = await refused(node, "CancelJob", job_pb2.CancelJobRequest(job_id="0-nothing", reason="x" * 1_025))
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, ["reason"])


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 100 + b"]" * 100, b'{"a": 18446744073709551616}']
)
async def test_initial_data_that_is_no_json_is_refused(node: Node, data: bytes) -> None:
    error = await refused(node, "CreateJob", creation(initial_data=types_pb2.Payload(data=data)))
    assert (error.code(), reason_of(error)) == (CODE.INVALID_ARGUMENT, "INVALID_JSON")


async def test_initial_data_over_the_limit_is_refused(node: Node) -> None:
    error = await refused(node, "CreateJob", creation(initial_data=json_payload({"x": "y" * 2**20})))
    assert (error.code(), reason_of(error)) == (CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED")


async def test_an_unknown_blueprint_is_not_found(node: Node) -> None:
    error = await refused(node, "CreateJob", creation(blueprint_name="nothing"))
    assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "BLUEPRINT_NOT_FOUND")


@pytest.mark.parametrize("after", [-1, 2**63 - 1])
async def test_a_history_from_a_line_that_cannot_be_is_refused_by_name(node: Node, after: int) -> None:
    request = job_pb2.GetJobHistoryRequest(job_id=await node.create(), after_sequence=after)
    with pytest.raises(ENDED) as caught:
        await node.call("GetJobHistory", request, job_pb2.GetJobHistoryResponse.FromString)
    assert (caught.value.code(), fields_of(caught.value)) == (CODE.INVALID_ARGUMENT, ["after_sequence"])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"statuses": ["nearly"]}, "statuses"),
        ({"created_after": Timestamp(seconds=-1)}, "created_after"),
        ({"created_before": Timestamp(seconds=10**11)}, "created_before"),
        ({"created_after": Timestamp(seconds=5, nanos=-1)}, "created_after"),
        ({"created_before": Timestamp(seconds=5, nanos=10**9)}, "created_before"),
        ({"fields": ["nothing"]}, "fields"),
    ],
)
async def test_a_list_that_cannot_be_is_refused_by_name(node: Node, more: dict[str, Any], field: str) -> None:
    error = await refused(node, "ListJobs", job_pb2.ListJobsRequest(**more))
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])


def not_yet() -> list[tuple[str, str]]:
    """The calls and fields that docs/protocol.md says are not done yet."""
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8").split("### What this version does not do yet")[1]
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", page, re.MULTILINE)
    names = [(re.findall(r"`(\w+)`", calls), re.findall(r"`(\w+)`", fields)) for calls, fields in rows]
    return [(call, field) for calls, fields in names for call in calls for field in fields if field != "fields"]


@pytest.mark.parametrize(("method", "field"), not_yet())
async def test_what_the_page_on_the_protocol_says_is_not_done_yet_is_refused_by_name(
    node: Node, method: str, field: str
) -> None:
    asked = getattr(job_pb2, f"{'CreateJob' if method == 'BatchCreateJobs' else method}Request")()
    named = field if hasattr(asked, field) else "fields"
    unset = getattr(asked, named)
    if hasattr(unset, "append"):
        unset.append(field)
    else:
        setattr(asked, named, "x" if isinstance(unset, str) else 1)
    if method == "BatchCreateJobs":
        batch = job_pb2.BatchCreateJobsRequest(requests=[asked])
        answer = await node.call(method, batch, job_pb2.BatchCreateJobsResponse.FromString)
        assert [one.field for one in answer.results[0].error.field_violations] == [field]
        return
    error = await refused(node, method, asked)
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [named])


@pytest.mark.parametrize("method", ["CreateJob", "GetJob", "ListJobs", "CancelJob", "ResolveApproval", "GetJobHistory"])
async def test_a_malformed_request_is_refused_with_a_reason(node: Node, method: str) -> None:
    error = await refused(node, method, b"\xff\xff\xff")
    assert (error.code(), reason_of(error)) == (CODE.INVALID_ARGUMENT, "MALFORMED_FRAME")


async def test_a_request_over_the_limit_is_refused_and_the_door_goes_on(node: Node) -> None:
    error = await refused(node, "CreateJob", b"x" * (4 * 2**20 + 1))
    assert error.code() is CODE.RESOURCE_EXHAUSTED
    assert await node.create()


async def test_what_is_not_there_is_unimplemented(node: Node) -> None:
    assert (await refused(node, "Nothing", b"")).code() is CODE.UNIMPLEMENTED


async def test_a_list_of_large_results_comes_in_pages_that_fit(node: Node) -> None:
    worker = await node.worker("w1", offering("wide"))
    for _ in range(12):
        job_id = await node.create(skill="wide")
        await worker.send(updates(result(await worker.offer(), {"x": "y" * 400_000})))
        await worker.verdict()
        assert (await node.ended(job_id)).status == "finished"
    asked = job_pb2.ListJobsRequest(fields=["id", "result"])
    sizes: list[int] = []
    while not sizes or asked.page_token:
        page = await node.call("ListJobs", asked, job_pb2.ListJobsResponse.FromString)
        assert all(len(job.result.data) > 400_000 for job in page.jobs)
        sizes.append(len(page.jobs))
        asked.page_token = page.next_page_token
    assert sum(sizes) == 12
    assert len(sizes) > 1


async def test_an_answer_over_the_limit_is_a_clear_error(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    # A page ends long before.
    monkeypatch.setattr(paging, "MAX_PAGE_BYTES", 2**30)
    # Kept: a stream that nobody holds may be ended.
    workers = []
    for number in range(2):
        schema = json_payload({"description": "y" * 60_000})
        wide = [offering(f"s{number}-{n}", input_schema=schema) for n in range(45)]
        workers.append(await node.worker(f"w{number}", *wide))
    listing: Any = node.channel.unary_unary("/holon.rxon.v1.NodeService/ListSkills")
    with pytest.raises(ENDED) as error:
        await listing(b"", metadata=CLIENT, timeout=GUARD)
    assert (error.value.code(), reason_of(error.value)) == (CODE.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")


# Faults of ours --------------------------------------------------------------------------------------------------


async def test_an_unexpected_fault_tells_the_log_and_not_the_client(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a secret of the node")

    monkeypatch.setattr(node.engine.jobs, "get", broken)
    error = await refused(node, "GetJob", job_pb2.GetJobRequest(job_id="x"))
    assert (error.code(), reason_of(error)) == (CODE.INTERNAL, HolonError.code)
    assert "secret" not in str(error)
    assert "a secret of the node" in caplog.text


async def test_a_store_that_is_away_says_when_to_try_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailable("the store is away", retry_after=1.5)

    monkeypatch.setattr(node.engine.jobs, "get", away)
    error = await refused(node, "GetJob", job_pb2.GetJobRequest(job_id="x"))
    assert (error.code(), reason_of(error)) == (CODE.UNAVAILABLE, "STORE_UNAVAILABLE")
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in details_of(error))
    assert retry.retry_delay.ToMilliseconds() == 1500


async def test_a_port_in_use_is_a_clear_error(node: Node) -> None:
    second = ClientDoor(
        node.engine.jobs,
        node.engine.watching,
        node.engine.trees,
        Overview(
            node.engine,
            "second",
            "1",
            lambda _grace, _reason: None,
            Reloading().reload,
            Holarchy(node.engine.store, "h", 8),
        ),
        DoorSettings(port=node.clients.port),
        None,
        Clients(sole(CLIENT_TOKEN)),
    )
    with pytest.raises(ConfigError, match="the port is in use"):
        await second.__aenter__()
