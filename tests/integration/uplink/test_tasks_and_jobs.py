"""A task of the parent's and the child's job for it: priority, lease, what was noted, and how the end is told."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.clock import SystemClock
from holon.domain.blueprint import Blueprint
from holon.domain.client import DEFAULT, Client
from holon.domain.fleet import Skill
from holon.engine.requests import Creating
from holon.errors import BlueprintError, StoreUnavailable
from holon.ports import JobRecord
from holon.rxon.v1 import worker_pb2
from holon.storage import MemoryStorage
from tests.integration.a_child import STORE, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, keep
from tests.integration.uplink.blueprints import blueprints
from tests.integration.uplink.granted import hold

pytestmark = pytest.mark.usefixtures("soon")


async def test_no_task_of_a_parents_job_goes_before_what_its_parent_said(certificates: Certificates) -> None:
    async with (
        a_child(certificates, blueprints(), max_priority=50.0) as child,
        Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
    ):
        stream = await child.linked()
        seen = []
        for n, (above, own) in enumerate(((5.0, 3), (5.0, -1), (1e9, 0), (float("nan"), 0), (-7.0, 0))):
            await offered(stream, f"t{n}", "work", {"priority": own}, priority=above)
            seen.append((await leaf.given()).priority)
        assert seen == [5.0, 4.0, 50.0, 0.0, -7.0]
        # Those of clients have their own.
        await child.engine.jobs.create(Client(DEFAULT), Creating("work", {"priority": 9}))
        assert (await leaf.given()).priority == 9.0


async def test_what_a_later_release_noted_of_a_task_is_gone_on_with(certificates: Certificates) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with a_child(certificates, blueprints(), store=store, parent=parent) as child:
            stream = await child.linked()
            await offered(stream, "t1", "named", {"of": "nobodys"})
            assert (await answer(stream)).HasField("accepted")
            noted = await store.documents("delegations")
        said = orjson.dumps(orjson.loads(noted[0].value) | {"more": 1})
        await store.put_document("delegations", "t1", said, version=noted[0].version)
        async with a_child(certificates, blueprints(), store=store, parent=parent) as child:
            stream = await child.linked(leases=keep("t1"))
            assert [one.task_id for one in stream.hello.resume.leases] == ["t1"]


async def test_only_an_end_that_says_so_may_be_tried_again(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        for end, again in (("for_now", True), ("for_good", False)):
            await offered(stream, end, "fails", {"end": end})
            error = (await stream.result()).result.error
            assert (error.code, error.retryable, error.HasField("retryable")) == ("CHILD_FAILED", again, again)
    with pytest.raises(BlueprintError, match="word of your own"):
        Blueprint("x").handler("good", is_end=True, status="failure")(for_nothing)
    with pytest.raises(BlueprintError, match="word of your own"):
        Blueprint("x").handler("bad", is_end=True, outcome="failed", status="odd")(for_nothing)
    with pytest.raises(BlueprintError, match="outcome='failed'"):
        Blueprint("x").handler("good", is_end=True, retry=True)(for_nothing)


async def for_nothing() -> None: ...


async def test_a_good_end_answers_with_the_status_that_it_says(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        statuses = {one.skill: list(one.statuses) for one in stream.hello.catalog.offerings}
        assert statuses == {"fails": ["partial"], "named": [], "spread": [], "work": []}
        await offered(stream, "t1", "fails", {"end": "partly"})
        result = (await stream.result()).result
        assert (result.status, result.data.data) == ("partial", b'{"pages":3}')


async def test_a_lease_is_extended_only_while_the_store_shows_its_job(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
        stream = await child.linked(heartbeat_interval=Duration(nanos=50_000_000))
        await hold(child, stream, leaf, 1)
        gone = {(await child.jobs())[0].job.id}
        await hold(child, stream, leaf, 1)
        assert not (await stream.message("heartbeat")).heartbeat.HasField("held")
        read, at_hand = child.store.job, child.store.at_hand

        async def job(job_id: str) -> JobRecord | None:
            if job_id in gone:
                raise StoreUnavailable("its part of the store is away", retry_after=0.01)
            return at_hand(job_id)

        monkeypatch.setattr(child.store, "job", job)
        monkeypatch.setattr(child.store, "at_hand", lambda _: None)
        child.engine.following.changed(gone)
        async with asyncio.timeout(GUARD):
            while not (beat := (await stream.message("heartbeat")).heartbeat).HasField("held"):
                pass
            [lease] = beat.held.leases
            assert lease.task_id == "t1"
            gone |= {record.job.id for record in await child.jobs()}
            child.engine.following.changed(gone)
            while (await stream.message("heartbeat")).heartbeat.held != worker_pb2.HeldLeases(no_leases=True):
                pass
            monkeypatch.setattr(child.store, "at_hand", at_hand)
            monkeypatch.setattr(child.store, "job", read)
            while (await stream.message("heartbeat")).heartbeat.HasField("held"):
                pass
        assert child.uplink.held == 2
