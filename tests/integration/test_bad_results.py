"""The worker door: results that cannot be taken each get their verdict, and nobody else is disturbed."""

from __future__ import annotations

import json

import pytest

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.grpc_node import Node, Wire, json_payload, offering, result, update, updates

LEASE = types_pb2.LeaseRef(task_id="0-abc-0-0", lease_id="never-given")


async def test_a_result_for_a_task_that_is_not_held_is_superseded(node: Node) -> None:
    good = await node.worker("good-1", offering("good"))
    worker = await node.worker()
    await node.create(skill="good")
    theirs = await good.offer()
    await worker.send(updates(result(LEASE), result(theirs)))
    assert [((ack := await worker.verdict()).verdict, ack.reason) for _ in range(2)] == [
        (worker_pb2.VERDICT_SUPERSEDED, "job_not_found"),
        (worker_pb2.VERDICT_SUPERSEDED, "worker_mismatch"),
    ]
    await good.send(updates(result(theirs)))
    assert (await good.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


@pytest.mark.parametrize(
    ("bad", "reason", "code"),
    [
        ({"status": ""}, "STATUS_MISSING", "CONTRACT_VIOLATION"),
        ({"data": types_pb2.Payload(data=b"{")}, "NOT_JSON", "CONTRACT_VIOLATION"),
        ({"data": types_pb2.Payload(data=b"")}, "NOT_JSON", "CONTRACT_VIOLATION"),
        ({"data": types_pb2.Payload(data=b"[1]")}, "SCHEMA_MISMATCH", "CONTRACT_VIOLATION"),
        ({"data": types_pb2.Payload(data=b'{"n":"no number"}')}, "SCHEMA_MISMATCH", "CONTRACT_VIOLATION"),
        ({"data": types_pb2.Payload(data=b"{}", encoding="zstd")}, "PAYLOAD_UNSUPPORTED", "CONTRACT_VIOLATION"),
        ({"data": types_pb2.Payload(data=b"{}", media_type="text/xml")}, "PAYLOAD_UNSUPPORTED", "CONTRACT_VIOLATION"),
        (
            {"data": types_pb2.Payload(data=b"{}", media_type="application/json; charset=utf-16")},
            "PAYLOAD_UNSUPPORTED",
            "CONTRACT_VIOLATION",
        ),
        ({"data": types_pb2.Payload(ref=types_pb2.FileRef(uri="x"))}, "PAYLOAD_UNSUPPORTED", "CONTRACT_VIOLATION"),
        ({"files": [types_pb2.NamedFile(name="x")]}, "PAYLOAD_UNSUPPORTED", "CONTRACT_VIOLATION"),
        ({"error": types_pb2.TaskError(code="X")}, "RESULT_INVALID", "CONTRACT_VIOLATION"),
        ({"cost": -1}, "RESULT_INVALID", "CONTRACT_VIOLATION"),
        ({"cost": 2**53}, "RESULT_INVALID", "CONTRACT_VIOLATION"),
        ({"cost": -(2**63)}, "RESULT_INVALID", "CONTRACT_VIOLATION"),
        (
            {
                "status": "failure",
                "error": types_pb2.TaskError(code="TRANSIENT_ERROR", details=types_pb2.Payload(data=b"{")),
            },
            "NOT_JSON",
            "CONTRACT_VIOLATION",
        ),
        (
            {
                "status": "failure",
                "error": types_pb2.TaskError(code="TRANSIENT_ERROR", details=types_pb2.Payload(data=b"")),
            },
            "NOT_JSON",
            "CONTRACT_VIOLATION",
        ),
        ({"data": types_pb2.Payload(data=b'"' + b"x" * 2**20 + b'"')}, "PAYLOAD_TOO_LARGE", "LIMIT_EXCEEDED"),
        # How deep a value goes may be its client's doing: it is a limit too, which is no mark against the worker.
        ({"data": types_pb2.Payload(data=b'{"a":' * 65 + b"1" + b"}" * 65)}, "NOT_JSON", "LIMIT_EXCEEDED"),
    ],
)
async def test_a_result_that_breaks_the_rules_is_invalid_and_ends_its_attempt(
    node: Node, bad: dict[str, object], reason: str, code: str
) -> None:
    schema = json_payload({"type": "object", "properties": {"n": {"type": "integer"}}})
    worker = await node.worker("w1", offering("t", output_schema=schema))
    job_id = await node.create()
    offer = await worker.offer()
    broken = worker_pb2.TaskResult(**{"status": "success", **bad})  # type: ignore[arg-type]
    await worker.send(updates(update(offer, result=broken)))
    ack = await worker.verdict()
    assert (ack.verdict, ack.error.reason) == (worker_pb2.VERDICT_INVALID, reason)
    await node.ended(job_id)
    history = await node.history(job_id)
    ended = [json.loads(one.context_snapshot.data) for one in history if one.event_type == "task_finished"]
    assert [one["code"] for one in ended] == [code]
    assert (await node.finishes_another(worker)).status == "finished"


@pytest.mark.parametrize(
    "data",
    [
        types_pb2.Payload(data=b"{}", media_type="application/json; charset=utf-8"),
        types_pb2.Payload(data=b"{}", media_type='Application/JSON;charset="UTF-8"'),
        types_pb2.Payload(data=b"null"),
        types_pb2.Payload(),
    ],
)
async def test_json_that_names_its_characters_and_no_value_are_taken(node: Node, data: types_pb2.Payload) -> None:
    worker = await node.worker()
    job_id = await node.create()
    done = worker_pb2.TaskResult(status="success", data=data)
    await worker.send(updates(update(await worker.offer(), result=done)))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await node.ended(job_id)).status == "finished"


async def test_results_of_a_batch_over_the_limit_are_to_be_sent_again(node: Node) -> None:
    worker = await node.worker()
    job_id = await node.create()
    offer = await worker.offer()
    await worker.send(updates(*[result(offer, {"n": 1})] * 257))
    for _ in range(257):
        ack = await worker.verdict() if _ else (await _verdict_after_refusal(worker))
        assert ack.verdict == worker_pb2.VERDICT_RETRY
        assert ack.error.HasField("retry_after")
    await worker.send(updates(result(offer, {"n": 1})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await node.ended(job_id)).status == "finished"


async def _verdict_after_refusal(worker: Wire) -> worker_pb2.ResultAck:
    assert (await worker.refused()).error.reason == "BATCH_TOO_LARGE"
    return await worker.verdict()
