"""A job of the parent's that cannot be opened keeps its child from nothing, and goes on once it can."""

from __future__ import annotations

import pytest

from holon.clock import SystemClock
from holon.domain.fleet import Skill
from holon.errors import SealBroken
from holon.ports import JobRecord
from holon.storage import MemoryStorage
from tests.integration.a_child import STORE, Leaf, a_child, offered
from tests.integration.scripted_node import Certificates, ScriptedNode, keep
from tests.integration.uplink.blueprints import DONE, blueprints

pytestmark = pytest.mark.usefixtures("soon")


class Damaged(MemoryStorage):
    """One of its jobs cannot be opened."""

    damaged = ""

    async def job(self, job_id: str) -> JobRecord | None:
        if job_id == self.damaged:
            raise SealBroken(f"jobs:{job_id}:state cannot be opened")
        return await super().job(job_id)


async def test_a_job_that_does_not_open_keeps_its_child_from_no_other_and_goes_on_once_it_does(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with Damaged(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with (
            a_child(certificates, blueprints(), store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked()
            for task_id in ("t1", "t2"):
                await offered(stream, task_id, "work", {})
            first, _ = await leaf.given(), await leaf.given()
        store.damaged = first.job_id
        async with (
            a_child(certificates, blueprints(), store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked(leases=keep("t1", "t2"))
            offers = {offer.job_id: offer for offer in (await leaf.given(), await leaf.given())}
            lost = offers.pop(first.job_id)
            [other] = offers.values()
            await leaf.ends(other, DONE)
            told = [(await stream.result()).task_id]
            assert f"job {first.job_id} continues later: jobs:{first.job_id}:state cannot be opened" in caplog.messages
            store.damaged = ""
            await leaf.ends(lost, DONE)
            told.append((await stream.result()).task_id)
            assert sorted(told) == ["t1", "t2"]
