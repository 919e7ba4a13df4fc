"""Attacks by workers that are let in: on others' tasks, by saying things again, or in another order."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from holon.client import Client
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.attack.place import GUARD, Place
from tests.integration.grpc_node import Wire, heartbeat, offering, result, update, updates

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMITTED, SUPERSEDED, INVALID = (
    worker_pb2.VERDICT_COMMITTED,
    worker_pb2.VERDICT_SUPERSEDED,
    worker_pb2.VERDICT_INVALID,
)
DEEP = b'{"a":' * 65 + b"1" + b"}" * 65
numbers = itertools.count()


async def offered(place: Place, shop: Client, worker: Wire, skill: str, **data: Any) -> worker_pb2.TaskOffer:
    """A new job's task, at this worker."""
    await shop.create_job("relay", {"skill": skill, "n": next(numbers), **data})
    return await worker.offer()


async def outcomes(shop: Client, job_id: str) -> list[tuple[str, str | None]]:
    """How often the job's tasks ended, and by whom."""
    return [
        (event.event_type, event.worker_id)
        async for event in shop.history(job_id)
        if event.event_type in ("task_finished", "task_failed", "task_cancelled")
    ]


async def test_no_worker_says_anything_of_anothers_task(place: Place) -> None:
    """By whatever kind of message, with the ids of its lease, which nobody but its worker should know."""
    async with place.client("shop") as shop:
        mine, thief = [await place.worker(name, offering(f"skill-{name}")) for name in ("mine", "thief")]
        lease = await offered(place, shop, mine, "skill-mine")
        attempts = {
            "accepted": worker_pb2.TaskAccepted(),
            "rejected": worker_pb2.TaskRejected(),
            "progress": worker_pb2.TaskProgress(percent=99, message="stolen"),
        }
        for kind, said in attempts.items():
            arguments: Any = {kind: said}
            await thief.send(updates(update(lease, **arguments)))
            if kind == "accepted":
                assert (await thief.expect("stop_tasks")).reason == "LEASE_LOST"
            assert (await thief.refused()).error.reason == "TASK_NOT_HELD", kind
        for status in ("success", "failure", "cancelled"):
            await thief.send(updates(result(lease, {"got": "stolen"} if status == "success" else None, status)))
            verdict = await thief.verdict()
            assert (verdict.verdict, verdict.reason) == (SUPERSEDED, "worker_mismatch"), status
        ref = types_pb2.LeaseRef(task_id=lease.task_id, lease_id=lease.lease_id)
        await thief.send(heartbeat(1, held=worker_pb2.HeldLeases(leases=[ref])))
        assert (await thief.expect("stop_tasks")).lease_id == lease.lease_id
        await thief.expect("heartbeat_ack")
        again = await place.worker("thief", offering("skill-thief"), resume=worker_pb2.Resume(leases=[ref]))
        (resumed,) = again.welcome.leases
        assert resumed.decision == worker_pb2.LEASE_DECISION_DROP
        assert (await shop.get_job(lease.job_id)).progress_message != "stolen"
        await mine.send(updates(result(lease, {"got": "mine"})))
        assert (await mine.verdict()).verdict == COMMITTED
        assert (await shop.wait_for(lease.job_id, timeout=GUARD)).result["got"] == "mine"
        assert await outcomes(shop, lease.job_id) == [("task_finished", "mine")]


async def test_a_guessed_or_mixed_up_lease_is_no_lease(place: Place) -> None:
    async with place.client("shop") as shop:
        worker = await place.worker("mixer", offering("mix"), credits=2)
        one, other = [await offered(place, shop, worker, "mix") for _ in range(2)]
        mixed = types_pb2.LeaseRef(task_id=one.task_id, lease_id=other.lease_id)
        for lease_id in (other.lease_id, one.lease_id[:-1], one.lease_id.upper() + "x", "0" * len(one.lease_id)):
            guess = types_pb2.LeaseRef(task_id=one.task_id, lease_id=lease_id)
            await worker.send(updates(result(guess, {"got": "guessed"})))
            assert (await worker.verdict()).verdict == SUPERSEDED
        await worker.send(updates(update(mixed, accepted=worker_pb2.TaskAccepted())))
        assert (await worker.expect("stop_tasks")).lease_id == mixed.lease_id
        assert (await worker.refused()).error.reason == "TASK_NOT_HELD"
        for lease in (one, other):
            await worker.send(updates(result(lease, {"got": "right"})))
            assert (await worker.verdict()).verdict == COMMITTED
            assert (await shop.wait_for(lease.job_id, timeout=GUARD)).result["got"] == "right"


async def test_what_is_said_again_in_this_session_or_a_later_one_counts_once(place: Place) -> None:
    async with place.client("shop") as shop:
        worker = await place.worker("echo", offering("echo"))
        lease = await offered(place, shop, worker, "echo")
        first = updates(result(lease, {"got": "first"}))
        await worker.send(first)
        assert (await worker.verdict()).verdict == COMMITTED
        await worker.send(first)
        await worker.send(updates(result(lease, {"got": "second"})))
        await worker.send(updates(update(lease, accepted=worker_pb2.TaskAccepted())))
        await worker.send(updates(update(lease, progress=worker_pb2.TaskProgress(percent=1, message="again"))))
        said = [await worker.next() for _ in range(5)]
        assert sum(kind == "update_acks" for kind, _ in said) == 2
        assert [one.error.reason for kind, one in said if kind == "session_error"] == ["TASK_NOT_HELD"] * 2
        await worker.close()
        later = await place.worker("echo", offering("echo"))
        await later.send(updates(result(lease, {"got": "later"})))
        await later.verdict()
        job = await shop.wait_for(lease.job_id, timeout=GUARD)
        assert job.result["got"] == "first"
        assert await outcomes(shop, lease.job_id) == [("task_finished", "echo")]


async def test_what_comes_in_another_order_does_no_more_than_in_the_right_one(place: Place) -> None:
    async with place.client("shop") as shop:
        worker = await place.worker("hasty", offering("hasty"))
        lease = await offered(place, shop, worker, "hasty")
        await worker.send(heartbeat(9))
        await worker.send(
            updates(
                update(lease, progress=worker_pb2.TaskProgress(percent=50, message="half")),
                result(lease, {"got": "done"}),
                update(lease, accepted=worker_pb2.TaskAccepted()),
                update(lease, rejected=worker_pb2.TaskRejected()),
            )
        )
        assert (await worker.expect("heartbeat_ack")).sequence == 9
        assert (await worker.verdict()).verdict == COMMITTED
        await worker.send(updates(update(lease, progress=worker_pb2.TaskProgress(percent=1, message="again"))))
        assert (await worker.refused()).error.reason == "TASK_NOT_HELD"
        await worker.beat(2)
        assert (await shop.wait_for(lease.job_id, timeout=GUARD)).result["got"] == "done"
        assert await outcomes(shop, lease.job_id) == [("task_finished", "hasty")]


async def test_a_worker_makes_itself_neither_a_holon_nor_another_client(place: Place) -> None:
    async with place.client("shop") as shop:
        worker = await place.worker("liar", offering("lie"))
        lease = await offered(place, shop, worker, "lie", client={"name": "boss"}, owner="boss")
        lies = {"client": {"name": "boss", "plan": "free"}, "owner": "boss", "job_id": "x", "got": "lies"}
        await worker.send(updates(result(lease, lies)))
        assert (await worker.verdict()).verdict == COMMITTED
        told = (await shop.wait_for(lease.job_id, timeout=GUARD)).result
        assert told == {"by": "shop", "plan": "gold", "got": "lies"}
    for frame in (
        worker_pb2.SessionRequest(tree_page=worker_pb2.TreePage()),
        worker_pb2.SessionRequest(command_replies=worker_pb2.CommandReplies()),
    ):
        await worker.send(frame)
        assert (await worker.refused()).error.reason == "UNKNOWN_MESSAGE"


async def test_json_nested_too_deeply_is_refused_wherever_it_comes_in(place: Place) -> None:
    async with place.client("shop") as shop, place.http("shop") as http:
        deep = b'{"initial_data":' + DEEP + b"}"
        reply = await http.post("/api/v1/jobs/relay", content=deep)
        assert (reply.status_code, reply.json()["code"]) == (400, "INVALID_JSON")
        value: Any = json.loads(DEEP)
        with pytest.raises(Exception, match="nested"):
            await shop.create_job("relay", value)
        worker = await place.worker("deep", offering("deep"), credits=3)
        payload = types_pb2.Payload(data=DEEP)
        details = types_pb2.TaskError(code="PERMANENT_ERROR", message="no", details=payload)
        for broken in (
            worker_pb2.TaskResult(status="success", data=payload),
            worker_pb2.TaskResult(status="failure", error=details),
        ):
            lease = await offered(place, shop, worker, "deep")
            await worker.send(updates(update(lease, result=broken)))
            assert (await worker.verdict()).verdict == INVALID
            assert (await shop.wait_for(lease.job_id, timeout=GUARD)).status != "finished"
        machine = worker_pb2.Profile(resources=types_pb2.Resources(properties=payload))
        for catalog in (
            worker_pb2.Catalog(sequence=1, offerings=[offering("deep", input_schema=payload)]),
            worker_pb2.Catalog(sequence=2, offerings=[offering("deep")], profiles=[machine]),
        ):
            await worker.send(worker_pb2.SessionRequest(catalog=catalog))
            assert (await worker.refused()).error.reason == "NOT_JSON"
        # The worker and its skill are still there.
        lease = await offered(place, shop, worker, "deep")
        await worker.send(updates(result(lease, {"got": "flat"})))
        assert (await worker.verdict()).verdict == COMMITTED


async def test_nobody_learns_a_lease_from_what_clients_or_other_workers_are_told(place: Place) -> None:
    async with place.client("shop") as shop, place.client("boss") as boss, place.http("shop") as http:
        worker = await place.worker("quiet", offering("quiet"))
        lease = await offered(place, shop, worker, "quiet", secret="s")
        told = [
            (await http.get(f"/api/v1/jobs/{lease.job_id}")).text,
            (await http.get(f"/api/v1/jobs/{lease.job_id}/history")).text,
            (await http.get("/_public/metrics")).text,
            repr([event async for event in shop.history(lease.job_id)]),
            repr([one async for one in boss.node.list_workers()]),
            repr(await boss.node.stats()),
        ]
        assert lease.task_id in told[1]
        assert not [text for text in told if lease.lease_id in text]
        await worker.send(updates(result(lease, {"got": 1})))
        await worker.verdict()
