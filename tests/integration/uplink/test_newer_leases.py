"""A task that comes again under a newer lease: its time stays, and a job that cannot have it is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.domain.fleet import Skill
from holon.errors import StoreUnavailable
from holon.ports import StopReason
from holon.uplink.books import KIND
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.echoing import blueprints


async def test_who_does_a_task_of_a_parents_job_has_no_longer_than_the_parent_gave_and_no_newer_lease_prolongs_it(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"}, time_left=Duration(seconds=100))
        given = await leaf.given()
        assert given.time_left is not None
        # A hundredth is the job's, which is stopped before it hears that the time of its task is over.
        assert 90_000 < given.time_left <= 99_000
        assert (await answer(stream)).HasField("accepted")
        before = [orjson.loads(one.value)["deadline"] for one in await child.store.documents(KIND)]
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2, time_left=Duration(seconds=900))
        while not (update := await answer(stream)).HasField("accepted"):
            pass
        assert update.lease_id == "newer"
        assert [orjson.loads(one.value)["deadline"] for one in await child.store.documents(KIND)] == before


async def test_a_job_whose_newer_lease_the_store_refuses_is_stopped_for_the_task_goes_to_others(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"})
        given = await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        put = child.store.put_document

        async def refused(kind: str, *arguments: Any, **more: Any) -> Any:
            if kind != KIND:
                return await put(kind, *arguments, **more)
            monkeypatch.setattr(child.store, "put_document", put)
            raise StoreUnavailable("the store is away for a moment")

        monkeypatch.setattr(child.store, "put_document", refused)
        await stream.stop("t1", "LEASE_LOST")
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        update = await answer(stream)
        assert (update.lease_id, update.rejected.reason) == ("newer", "BUSY")
        async with asyncio.timeout(GUARD):
            stop = await leaf.stops.get()
        assert (stop.lease.task_id, stop.reason) == (given.task_id, StopReason.CANCELLED)
