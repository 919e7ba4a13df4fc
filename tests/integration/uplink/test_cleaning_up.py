"""A job of the parent's that cleans up after a cancel: it ends, and has its place until then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.clock import SystemClock
from holon.domain.fleet import Skill
from holon.storage import MemoryStorage
from holon.uplink import owner_of
from holon.worker.leases import Lease
from tests.integration.a_child import PARENT, STORE, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, is_at_once
from tests.integration.uplink.blueprints import DONE, blueprints
from tests.integration.uplink.granted import grants

pytestmark = pytest.mark.usefixtures("soon")


async def test_a_clean_up_that_does_not_end_is_ended(certificates: Certificates) -> None:
    async with (
        a_child(certificates, blueprints(), cleanup=0.3) as child,
        Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "work", {})
        await leaf.given()
        await stream.stop("t1")
        assert (await stream.result()).result.status == "cancelled"
        (job,) = await child.jobs()
        assert job.job.current_state == "tidy"


async def test_a_clean_up_that_does_not_end_is_ended_after_a_restart_though_the_parent_is_away(
    certificates: Certificates,
) -> None:
    skills = Skill("leaf"), Skill("sweep")
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        more: dict[str, Any] = {"store": store, "parent": parent, "cleanup": 0.3}
        async with a_child(certificates, blueprints(), **more) as child, Leaf(child.engine, "leaf", *skills) as leaf:
            stream = await child.linked()
            await offered(stream, "t1", "work", {"tidies": "sweep"})
            await leaf.given()
            await stream.stop("t1")
            assert (await leaf.given()).skill == "sweep"
        # Nobody answers its Hello.
        async with a_child(certificates, blueprints(), **more) as child, asyncio.timeout(GUARD):
            while not (await child.jobs())[0].job.status.terminal:  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.01)


async def test_a_clean_up_that_began_before_a_restart_is_not_cut_short_when_the_lease_is_lost_too(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.uplink.running._COMES_BACK_S", 0.01)
    skills = Skill("leaf"), Skill("sweep")
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with (
            a_child(certificates, blueprints(), store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", *skills) as leaf,
        ):
            stream = await child.linked()
            await offered(stream, "t1", "work", {"tidies": "sweep"})
            await leaf.given()
            await stream.stop("t1")
            assert (await leaf.given()).skill == "sweep"
        async with (
            a_child(certificates, blueprints(), store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", *skills) as leaf,
        ):
            sweeping = await leaf.given()
            await child.linked(session_id="second")
            jobs = child.uplink._serving.jobs  # type: ignore[union-attr]
            leases = child.uplink._link.reports.leases  # type: ignore[union-attr]
            await child.until(lambda: not leases.holds(Lease("t1", "t1-lease")))
            # What is asked of the job from here on comes behind that.
            await child.engine.jobs.cancel(owner_of(PARENT), (await child.jobs())[0].job.id, insist=False)
            await leaf.ends(sweeping, DONE)
            await child.until(lambda: jobs.get("t1") is None)
            (record,) = await child.jobs()
            assert record.job.error is not None
            assert record.job.error.message == "cancelled after its clean-up"


async def test_a_job_that_its_parent_dropped_takes_its_place_while_it_cleans_up_and_the_credits_say_so(
    certificates: Certificates,
) -> None:
    async with (
        a_child(certificates, blueprints(), max_jobs=1) as child,
        Leaf(child.engine, "leaf", Skill("leaf"), Skill("sweep")) as leaf,
    ):
        first = await child.linked(session_id="first")
        await offered(first, "t1", "work", {"tidies": "sweep"})
        await leaf.given()
        first.end()
        second = await child.linked(session_id="second")
        sweeping = await leaf.given()
        assert sweeping.skill == "sweep"
        await grants(second, 0)
        await offered(second, "t2", "work", {})
        update = await answer(second)
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t2", "BUSY", True)
        await leaf.ends(sweeping, DONE)
        await grants(second, 1)
