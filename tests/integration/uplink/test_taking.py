"""Tasks that a child is offered: many at once, odd ones, and those that cross its drain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.domain.digest import Fingerprint
from holon.domain.fleet import Skill
from holon.domain.job import Status
from holon.ports import NewJob
from holon.rxon.v1 import worker_pb2
from holon.storage.owned import OwnedStorage
from holon.wire.stream import MOST_MESSAGE_BYTES
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import FAST, Certificates, is_at_once
from tests.integration.uplink.blueprints import DONE
from tests.integration.uplink.blueprints import blueprints as named
from tests.integration.uplink.echoing import blueprints, finishes


async def test_a_child_reads_as_much_as_a_parent_can_send(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        assert (await child.linked()).hello.max_message_bytes == MOST_MESSAGE_BYTES


async def test_a_task_whose_job_is_over_soon_is_accepted_by_its_result_and_another_one_by_word(
    certificates: Certificates,
) -> None:
    patient = replace(FAST, accept_after=60.0)
    for timing, told in ((patient, ["result"]), (FAST, ["accepted", "result"])):
        async with a_child(certificates, named(), timing=timing) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
            stream = await child.linked()
            await offered(stream, "t1", "named", {"of": "a"})
            given = await leaf.given()
            heard = [(await answer(stream)).WhichOneof("update")] if timing is FAST else []
            await leaf.ends(given, DONE)
            heard.append((await answer(stream)).WhichOneof("update"))
            assert heard == told


async def test_the_end_of_a_job_that_is_at_hand_is_told_without_a_read_of_it(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        # The first asks for what does not change.
        await finishes(child, stream, "t1")
        with monkeypatch.context() as patched:
            patched.delattr(OwnedStorage, "history")
            await offered(stream, "t2", "echo", {"n": 1})
            result = (await stream.result()).result
        (job,) = [one for one in await child.jobs() if one.job.id == result.summary.job_id]
        fingerprint = Fingerprint()
        fingerprint.take_all(await child.store.history(job.job.id, 0, 100))
        assert result.summary.digest.sha256 == fingerprint.digest().sha256
        # One that is not at hand is read.
        monkeypatch.setattr(child.store, "history_at_hand", lambda _: None)
        await offered(stream, "t3", "echo", {"n": 1})
        assert (await stream.result()).result.summary.digest.event_count == job.sequence


async def test_offers_that_come_together_are_one_call_of_the_store_and_each_is_answered_by_itself(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=200) as child:
        stream, sizes = await child.linked(), list[int]()
        create = child.store.create_jobs

        async def counted(items: Sequence[NewJob], *more: Any) -> Any:
            sizes.append(len(items))
            return await create(items, *more)

        monkeypatch.setattr(child.store, "create_jobs", counted)
        skills = [*["waits"] * 80, "nothing", "waits", "waits", "waits"]
        offers = [
            worker_pb2.TaskOffer(task_id=f"t{n}", lease_id=f"l{n}", generation=1, attempt=1, skill=skill)
            for n, skill in enumerate(skills)
        ]
        offers[1].params.data = b"[]"
        offers[2].params.data = b"{"
        offers[3].attempt = 0
        offers[82].task_id = "t81"
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers))
        updates = {(one := await answer(stream)).lease_id: one for _ in offers}
        said = {lease: one.rejected.reason or one.result.error.code for lease, one in updates.items()}
        refused = {lease: why for lease, why in said.items() if why}
        assert refused == {
            "l1": "INVALID_INPUT_ERROR",
            "l2": "INVALID_INPUT_ERROR",
            "l3": "UNSUITABLE",
            "l80": "UNKNOWN_SKILL",
            "l82": "STALE_OFFER",
        }
        given_back = {reason: count for (reason,), count in child.uplink.metrics.rejections.values.items() if count}
        assert given_back == {"UNSUITABLE": 1, "UNKNOWN_SKILL": 1, "STALE_OFFER": 1}
        assert sum(sizes) == len(await child.jobs()) == len(offers) - len(refused)
        assert len(sizes) == 2


async def test_a_burst_of_offers_goes_no_further_than_the_limit(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=3) as child:
        stream = await child.linked()
        create, making, refused = child.engine.jobs.create_for_parent, asyncio.Event(), asyncio.Event()

        async def slowly(*arguments: Any) -> Any:
            making.set()
            await refused.wait()
            return await create(*arguments)

        monkeypatch.setattr(child.engine.jobs, "create_for_parent", slowly)
        offers = [
            worker_pb2.TaskOffer(task_id=f"t{n}", lease_id=f"l{n}", generation=1, attempt=1, skill="waits")
            for n in range(10)
        ]
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers[:3]))
        await stream.wait(making)
        # Those of which jobs are being made count already.
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers[3:]))
        updates = [await answer(stream) for _ in offers[3:]]
        refused.set()
        updates += [await answer(stream) for _ in offers[:3]]
        said = [one.WhichOneof("update") for one in updates]
        assert (said.count("accepted"), said.count("rejected")) == (3, 7)
        # They crossed its word of how many: perhaps nobody else can do them.
        assert {is_at_once(one) for one in updates if one.rejected.reason == "BUSY"} == {True}
        assert len(await child.jobs()) == 3


async def test_an_offer_that_crosses_the_drain_of_a_child_is_no_job_and_comes_again_at_once(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await finishes(child, stream, "t1")
        stream.came.clear()
        child.uplink.drain()
        await offered(stream, "t2", "waits")
        update = await answer(stream)
        assert (update.rejected.reason, is_at_once(update)) == ("DRAINING", True)
        # The parent heard first that there is no room any more; and before that of the first job, perhaps.
        *before, last = stream.came[: next(at for at, one in enumerate(stream.came) if one.HasField("task_updates"))]
        assert all(one.HasField("heartbeat") for one in before)
        assert (last.heartbeat.HasField("credits"), last.heartbeat.credits) == (True, 0)
        assert [one.job.blueprint for one in await child.jobs()] == ["echo"]


async def test_what_no_task_can_be_is_given_back_and_the_link_stands(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        for more in ({"generation": 0}, {"attempt": -1}):
            offer: dict[str, Any] = {"task_id": "t", "lease_id": "l", "generation": 1, "attempt": 1, **more}
            await stream.send(task_offers=worker_pb2.TaskOffers(offers=[worker_pb2.TaskOffer(skill="echo", **offer)]))
            assert (await answer(stream)).rejected.reason == "UNSUITABLE"
        await offered(stream, "x" * 600, "echo")
        assert (await answer(stream)).rejected.reason == "UNSUITABLE"
        for n, seconds in enumerate((2**63 - 1, -(2**63))):
            await offered(stream, f"long-{n}", "waits", time_left=Duration(seconds=seconds, nanos=2**31 - 1))
        assert (await answer(stream)).HasField("accepted")
        await finishes(child, stream, "good")
        assert child.parent.waiting == 0


async def test_a_task_that_is_offered_again_before_its_first_offer_is_answered_goes_on_under_the_newer(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        offers = [
            worker_pb2.TaskOffer(task_id="t", lease_id=f"l{n}", generation=1, attempt=n, skill="waits")
            for n in (1, 2, 3)
        ]
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers))
        said = [await answer(stream) for _ in range(4)]
        # No more than two are kept waiting.
        assert [(one.lease_id, one.WhichOneof("update"), one.rejected.reason) for one in said] == [
            ("l3", "rejected", "BUSY"),
            ("l1", "accepted", ""),
            ("l1", "rejected", "STALE_OFFER"),
            ("l2", "accepted", ""),
        ]
        (job,) = await child.jobs()
        assert job.job.status is Status.WAITING_FOR_WORKER
