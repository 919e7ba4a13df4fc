"""The worker door: what is wrong is refused with one clear error, and nobody else is disturbed."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from holon.clock import ManualClock, SystemClock
from holon.ports import Superseded
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.security.admission import Admission
from holon.transports.grpc.hello import RESUMED_BYTES
from holon.wire.values import duration
from tests.integration.grpc_node import (
    ENDED,
    WORKER_TOKEN,
    Node,
    Wire,
    a_node,
    fields_of,
    heartbeat,
    hello,
    json_payload,
    offering,
    reason_of,
    result,
    update,
    updates,
    worker_files,
)

CODE = grpc.StatusCode
NOT_PROTOBUF = b"\xff\xff\xff\xff"
UNKNOWN_MEMBER = bytes([0xA2, 0x06, 0x00])
# Deeper than any schema may be.
DEEP = b'{"a":' * 65 + b"1" + b"}" * 65


async def refusal(wire: Wire, first: worker_pb2.SessionRequest | bytes) -> tuple[grpc.StatusCode, str]:
    await wire.send(first)
    end = await wire.end()
    return end.code(), reason_of(end)


# Who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
async def test_a_missing_or_foreign_certificate_does_not_get_in(node: Node, good: Wire, who: str) -> None:
    stranger = await node.stream(worker_files("w1", "theirs") if who == "a stranger" else None)
    assert (await stranger.end()).code() is CODE.UNAVAILABLE
    await node.finishes_jobs(good)


async def test_a_claimed_id_that_is_not_the_certificates_is_refused(node: Node, good: Wire) -> None:
    liar = await node.stream("w1")
    assert await refusal(liar, hello(worker_id="good-1")) == (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
    await node.finishes_jobs(good)


async def test_a_certificate_that_ends_ends_its_session() -> None:
    clock = ManualClock(SystemClock().now_ms())
    async with a_node(clock=clock, silence=0.2) as node:
        worker = await node.worker("w1")
        clock.advance(400 * 86_400_000)
        end = await worker.end()
        assert (end.code(), reason_of(end)) == (CODE.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
        late = await (await node.stream("w1")).end()
        assert (late.code(), reason_of(late)) == (CODE.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("x-worker-token", "another"),),
        (("authorization", f"Basic {WORKER_TOKEN}"),),
        (("x-worker-token", WORKER_TOKEN), ("authorization", f"Bearer {WORKER_TOKEN}")),
        (("x-worker-token", WORKER_TOKEN), ("x-worker-token", WORKER_TOKEN)),
    ],
)
async def test_a_missing_wrong_or_doubled_token_is_refused(metadata: tuple[tuple[str, str], ...]) -> None:
    async with a_node(secure=False) as node:
        good = await node.worker("good-1", offering("good"))
        intruder = await node.stream(None, metadata)
        end = await intruder.end()
        assert (end.code(), reason_of(end)) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert WORKER_TOKEN not in str(end.details())
        await node.finishes_jobs(good)


async def test_a_door_without_a_token_refuses_every_call_and_names_the_setting() -> None:
    async with a_node(secure=False, admission=Admission(SystemClock())) as node:
        end = await (await node.stream(None, (("x-worker-token", ""),))).end()
        assert end.code() is CODE.UNAUTHENTICATED
        assert "GLOBAL_WORKER_TOKEN" in str(end.details())


@pytest.mark.parametrize("worker_id", ["", "with space", "with/slash", "-dash", "x" * 129])
async def test_an_impossible_id_is_refused_where_only_the_claim_counts(worker_id: str) -> None:
    async with a_node(secure=False) as node:
        wire = await node.stream(None)
        await wire.send(hello(worker_id=worker_id))
        end = await wire.end()
        assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
        assert fields_of(end) == ["worker_id"]


# How a stream opens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [heartbeat(), worker_pb2.SessionRequest(), NOT_PROTOBUF, UNKNOWN_MEMBER])
async def test_a_first_message_that_is_not_hello_ends_the_stream(
    node: Node, good: Wire, first: worker_pb2.SessionRequest | bytes
) -> None:
    wire = await node.stream("w1")
    assert await refusal(wire, first) == (CODE.INVALID_ARGUMENT, "HELLO_EXPECTED")
    await node.finishes_jobs(good)


async def test_a_stream_without_a_hello_ends_after_a_while() -> None:
    async with a_node(hello=0.1) as node:
        end = await (await node.stream("w1")).end()
        assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "HELLO_EXPECTED")


async def test_a_stream_closed_without_a_hello_is_refused(node: Node) -> None:
    wire = await node.stream("w1")
    await wire.close()
    assert reason_of(await wire.end()) == "HELLO_EXPECTED"


def _resume(n: int, suffix: str = "") -> worker_pb2.Resume:
    leases = [types_pb2.LeaseRef(task_id=f"0-{i:032x}-1-0{suffix}", lease_id=f"{i:032x}") for i in range(n)]
    return worker_pb2.Resume(leases=leases)


def _hello_with(**more: object) -> worker_pb2.SessionRequest:
    return hello(**more)


@pytest.mark.parametrize(
    ("first", "field"),
    [
        (worker_pb2.SessionRequest(hello=worker_pb2.Hello()), "catalog"),
        (_hello_with(credits=-1), "credits"),
        (_hello_with(credits=10_001), "credits"),
        (_hello_with(max_message_bytes=1000), "max_message_bytes"),
        (_hello_with(max_message_bytes=65_536, resume=_resume(1_000)), "resume.leases"),
        (_hello_with(resume=_resume(10_000, "x" * 320)), "resume.leases"),
        (_hello_with(resume=_resume(10_001)), "resume.leases"),
        (_hello_with(labels={str(n): "x" for n in range(65)}), "labels"),
        (hello(offering("")), "catalog.offerings.0.skill"),
        (hello(offering("x" * 129)), "catalog.offerings.0.skill"),
        (hello(offering("a"), offering("a")), "catalog.offerings.1"),
        (hello(offering("a", credits=-2)), "catalog.offerings.0.credits"),
        (hello(offering("a", input_schema=types_pb2.Payload(data=b"[1]"))), "catalog.offerings.0.input_schema"),
        (hello(offering("a", input_schema=types_pb2.Payload(data=b"{"))), "catalog.offerings.0.input_schema"),
        (hello(offering("a", output_schema=types_pb2.Payload(data=DEEP))), "catalog.offerings.0.output_schema"),
        (
            hello(offering("a", input_schema=types_pb2.Payload(media_type="application/xml", data=b"{}"))),
            "catalog.offerings.0.input_schema",
        ),
    ],
)
async def test_a_hello_that_cannot_be_is_refused_and_its_field_named(
    node: Node, first: worker_pb2.SessionRequest, field: str
) -> None:
    wire = await node.stream("w1")
    await wire.send(first)
    end = await wire.end()
    assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
    assert fields_of(end) == [field]
    assert not list(node.engine.dispatcher.sessions)


async def test_a_worker_that_reads_little_resumes_what_a_welcome_to_it_has_room_for(node: Node) -> None:
    worker = await node.worker("w1", max_message_bytes=65_536, resume=_resume(480))
    assert [one.reason for one in worker.welcome.leases] == ["job_not_found"] * 480


def test_a_welcome_says_no_more_of_a_lease_than_it_is_thought_to() -> None:
    wide = "x" * 128
    for answer in (
        worker_pb2.ResumedLease(decision=worker_pb2.LEASE_DECISION_KEEP, time_left=duration(2**53 - 1)),
        *(worker_pb2.ResumedLease(decision=worker_pb2.LEASE_DECISION_DROP, reason=reason) for reason in Superseded),
    ):
        answer.task_id = answer.lease_id = wide
        said = worker_pb2.Resume(leases=[types_pb2.LeaseRef(task_id=wide, lease_id=wide)])
        assert worker_pb2.Welcome(leases=[answer]).ByteSize() <= said.ByteSize() + RESUMED_BYTES


@pytest.mark.parametrize("which", ["input_schema", "output_schema"])
async def test_a_schema_that_cannot_be_used_refuses_the_hello_and_is_named(node: Node, which: str) -> None:
    wire = await node.stream("w1")
    bad: dict[str, Any] = {which: json_payload({"type": "nothing"})}
    await wire.send(hello(offering("a"), offering("b", **bad)))
    end = await wire.end()
    assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
    assert fields_of(end) == [f"catalog.offerings.1.{which}"]
    assert "'b'" in str(end.details())


# What is refused in band -----------------------------------------------------------------------------------------

LEASE = types_pb2.LeaseRef(task_id="0-abc-0-0", lease_id="never-given")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (NOT_PROTOBUF, "MALFORMED_FRAME"),
        (b"\x0a\x03\x0a\x01\xff", "MALFORMED_FRAME"),
        (b"", "UNKNOWN_MESSAGE"),
        (UNKNOWN_MEMBER, "UNKNOWN_MESSAGE"),
        (worker_pb2.SessionRequest(reauthenticate=worker_pb2.Reauthenticate()), "UNKNOWN_MESSAGE"),
        (worker_pb2.SessionRequest(command_replies=worker_pb2.CommandReplies()), "UNKNOWN_MESSAGE"),
        (worker_pb2.SessionRequest(tree_page=worker_pb2.TreePage()), "UNKNOWN_MESSAGE"),
        (hello(), "HELLO_REPEATED"),
        (heartbeat(credits=-1), "INVALID_ARGUMENT"),
        (heartbeat(offering_credits=[worker_pb2.OfferingCredits(skill="t", credits=-1)]), "INVALID_ARGUMENT"),
        (heartbeat(held=worker_pb2.HeldLeases(leases=[LEASE], no_leases=True)), "INVALID_ARGUMENT"),
        (worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(offerings=[offering("")])), "INVALID_ARGUMENT"),
        (
            worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(offerings=[offering("a", price=-1)])),
            "INVALID_ARGUMENT",
        ),
        (
            worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(offerings=[offering("a", price=2**53)])),
            "INVALID_ARGUMENT",
        ),
        (
            worker_pb2.SessionRequest(
                catalog=worker_pb2.Catalog(offerings=[offering("a", input_schema=json_payload({"type": "nothing"}))])
            ),
            "SCHEMA_INVALID",
        ),
        (
            worker_pb2.SessionRequest(
                catalog=worker_pb2.Catalog(offerings=[offering("a", input_schema=types_pb2.Payload(data=b"{"))])
            ),
            "NOT_JSON",
        ),
        (updates(*[update(LEASE, accepted=worker_pb2.TaskAccepted())] * 257), "BATCH_TOO_LARGE"),
    ],
)
async def test_a_bad_message_gets_its_error_and_the_stream_goes_on(
    node: Node, frame: worker_pb2.SessionRequest | bytes, reason: str
) -> None:
    worker = await node.worker("w1", offering("good"))
    await worker.send(frame)
    refused = await worker.refused()
    assert (refused.frame, refused.error.reason, refused.task_id) == (2, reason, "")
    assert refused.error.code == CODE.INVALID_ARGUMENT.value[0]
    assert refused.error.message
    await node.finishes_jobs(worker)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (update(LEASE), "UNKNOWN_UPDATE"),
        (update(LEASE, chunk=worker_pb2.TaskChunk()), "UNKNOWN_UPDATE"),
        (worker_pb2.TaskUpdate(task_id="t", accepted=worker_pb2.TaskAccepted()), "IDS_MISSING"),
        (worker_pb2.TaskUpdate(lease_id="l", result=worker_pb2.TaskResult(status="success")), "IDS_MISSING"),
        (update(LEASE, rejected=worker_pb2.TaskRejected(reason="BUSY")), "TASK_NOT_HELD"),
        (update(LEASE, progress=worker_pb2.TaskProgress(percent=1)), "TASK_NOT_HELD"),
        (update(LEASE, progress=worker_pb2.TaskProgress(percent=101)), "INVALID_ARGUMENT"),
        (update(LEASE, progress=worker_pb2.TaskProgress(percent=float("nan"))), "INVALID_ARGUMENT"),
    ],
)
async def test_one_bad_update_is_named_and_the_others_of_its_message_stand(
    node: Node, bad: worker_pb2.TaskUpdate, reason: str
) -> None:
    worker = await node.worker()
    job_id = await node.create()
    offer = await worker.offer()
    await worker.send(updates(bad, result(offer, {"n": 1})))
    refused = await worker.refused()
    assert (refused.error.reason, refused.task_id, refused.lease_id) == (reason, bad.task_id, bad.lease_id)
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await node.ended(job_id)).status == "finished"


@pytest.mark.parametrize("cost", [-1, 2**53])
async def test_a_task_is_given_back_though_the_cost_of_that_is_none_which_is_told(node: Node, cost: int) -> None:
    worker = await node.worker()
    await node.create()
    offer = await worker.offer()
    await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
    back = worker_pb2.TaskRejected(reason="BUSY", retry_after=duration(0), cost=cost)
    await worker.send(updates(update(offer, rejected=back)))
    refused = await worker.refused()
    assert (refused.error.reason, refused.task_id) == ("INVALID_ARGUMENT", offer.task_id)
    assert [one.field for one in refused.error.field_violations] == ["cost"]
    again = await worker.offer()
    assert (again.task_id, again.lease_id != offer.lease_id) == (offer.task_id, True)
    await worker.send(updates(result(again)))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def test_a_hundred_refused_messages_end_the_session(node: Node, good: Wire) -> None:
    worker = await node.worker()
    for _ in range(100):
        await worker.send(NOT_PROTOBUF)
    for number in range(100):
        assert (await worker.refused()).frame == number + 2
    end = await worker.end()
    assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "TOO_MANY_ERRORS")
    await node.finishes_jobs(good)


async def test_what_is_refused_only_once_it_was_looked_at_counts_like_what_is_refused_at_once(
    node: Node, good: Wire
) -> None:
    worker = await node.worker()
    for number in range(50):
        schema = json_payload({"type": f"nonsense-{number}"})
        catalog = worker_pb2.Catalog(sequence=number + 1, offerings=[offering("t", input_schema=schema)])
        await worker.send(worker_pb2.SessionRequest(catalog=catalog))
        assert (await worker.refused()).error.reason == "SCHEMA_INVALID"
    for _ in range(50):
        await worker.send(NOT_PROTOBUF)
    assert reason_of(await worker.end()) == "TOO_MANY_ERRORS"
    await node.finishes_jobs(good)


async def test_a_message_over_the_limit_ends_its_own_stream_only(node: Node, good: Wire) -> None:
    worker = await node.worker()
    await worker.send(b"x" * (4 * 2**20 + 1))
    assert (await worker.end()).code() is CODE.RESOURCE_EXHAUSTED
    await node.finishes_jobs(good)
    await node.until(lambda: len(list(node.engine.dispatcher.sessions)) == 1)


async def test_a_method_that_is_not_there_is_unimplemented(node: Node) -> None:
    channel: Any = await node.worker_channel(worker_files("w1"))
    for method in ("/holon.rxon.v1.TokenService/ExchangeToken", "/holon.rxon.v1.WorkerService/Other"):
        with pytest.raises(ENDED) as refused:
            await channel.unary_unary(method)(b"")
        assert refused.value.code() is CODE.UNIMPLEMENTED
