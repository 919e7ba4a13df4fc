"""How many tasks a child grants its parent: as many as its places can begin."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.client import DEFAULT, Client
from holon.domain.fleet import Skill
from holon.engine.requests import Creating
from holon.uplink.credits import RAISES_AT_ONCE
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.blueprints import DONE, blueprints
from tests.integration.uplink.granted import credits_of, grants, hold

pytestmark = pytest.mark.usefixtures("soon")


@pytest.mark.parametrize("skill", ["one", "many"])
async def test_jobs_that_come_and_go_do_not_make_a_heartbeat_each_that_says_there_is_more_room(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, skill: str
) -> None:
    monkeypatch.setattr("holon.uplink.credits.RAISE_S", 3_600)
    async with (
        a_child(certificates, alike()) as child,
        Leaf(child.engine, "leaf", Skill("leaf"), credits=3) as leaf,
    ):
        stream = await child.linked()
        for n in range(30):
            await offered(stream, f"t{n}", skill, {"width": 1})
            await leaf.ends(await leaf.given(), DONE)
            await stream.result()
        told = [stream.hello.credits, *(one.heartbeat.credits for one in stream.came if one.HasField("heartbeat"))]
        assert sum(now > before for before, now in pairwise(told)) <= RAISES_AT_ONCE
        # What is less goes at once.
        stream.came.clear()
        child.uplink.drain()
        await grants(stream, 0)


async def test_places_are_counted_once_while_the_store_is_slow_to_show_how_jobs_fare(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        a_child(certificates, blueprints()) as child,
        Leaf(child.engine, "leaf", Skill("leaf"), credits=3) as leaf,
    ):
        stream = await child.linked()
        # As in a store of several nodes, where how a job fares is to be asked for.
        shown, read = asyncio.Event(), child.store.job

        async def job(job_id: str) -> Any:
            await shown.wait()
            return await read(job_id)

        monkeypatch.setattr(child.store, "job", job)
        monkeypatch.setattr(child.store, "at_hand", lambda _: None)
        await child.until(lambda: (one := child.uplink._credits) is not None and one._due()[1]["work"] == 3)
        granting = child.uplink._credits
        assert granting is not None
        for task in ("t1", "t2"):
            await offered(stream, task, "work", {})
        given = [await leaf.given() for _ in range(2)]
        assert {(await answer(stream)).WhichOneof("update") for _ in range(2)} == {"accepted"}
        # What would count twice stays so for as long as the store shows nothing.
        await child.until(lambda: granting._due()[1]["work"] == 3)
        # Nor is a place gone that a call to the store has for a moment, for what may wait.
        leaf.member.session.promised = 1
        await child.until(lambda: granting._due()[1]["work"] == 3)
        leaf.member.session.promised = 0
        # One is over, and its place is idle, though the parent is not told of it yet.
        await leaf.ends(given[0], DONE)
        await child.until(lambda: (child.uplink.held, granting._due()[1]["work"]) == (2, 3))
        shown.set()
        told = await stream.result()
        assert (told.task_id, told.result.status) == ("t1", "success")
        await child.until(lambda: (child.uplink.held, granting._due()[1]["work"]) == (1, 3))


async def test_the_parent_has_its_share_of_the_places_and_what_is_idle(certificates: Certificates) -> None:
    async with (
        a_child(certificates, blueprints(), share=0.5) as child,
        Leaf(child.engine, "leaf", Skill("leaf"), credits=4) as leaf,
    ):
        stream = await child.linked()
        await child.engine.jobs.create(Client(DEFAULT), Creating("work", {}))
        own = await leaf.given()
        await hold(child, stream, leaf, 2)
        # One place is idle, and for clients.
        await grants(stream, 2)
        await leaf.ends(own, DONE)
        await grants(stream, 4)


def alike() -> list[Blueprint]:
    """Two that have the same work done: one task at a time, and perhaps many."""
    one, many = Blueprint("one"), Blueprint("many")

    @one.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "end"})

    @many.handler(is_start=True)
    async def fan(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_parallel([{"task_type": "leaf", "params": {}}] * initial_data["width"], "end")

    for blueprint in (one, many):

        @blueprint.handler(is_end=True)
        async def end() -> None: ...

    return [one, many]


@pytest.mark.parametrize(("places", "most"), [(0, 1), (2, 2)])
async def test_jobs_that_wait_for_a_fan_out_that_nobody_does_keep_what_comes_after_them_with_the_parent(
    certificates: Certificates, places: int, most: int
) -> None:
    async with a_child(certificates, alike()) as child:
        stream = await child.linked()
        async with AsyncExitStack() as workers:
            if places:
                await workers.enter_async_context(Leaf(child.engine, "other", Skill("other"), credits=places))
            for n in range(most):
                await offered(stream, f"m{n}", "many", {"width": 4})
                assert (await answer(stream)).HasField("accepted")
            # It says nothing new where that is what it said before.
            assert await credits_of(stream) <= most
            async with Leaf(child.engine, "leaf", Skill("leaf"), credits=4 * most + 4) as leaf:
                for _ in range(4 * most):
                    await leaf.given()
                await grants(stream, most + 1, "many")


async def test_work_of_one_task_has_every_idle_place_and_other_work_no_more_than_its_jobs_leave(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, alike()) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=12) as leaf:
            await grants(stream, 12)

            async def begun(job: str) -> None:
                await offered(stream, job, "many", {"width": 4})
                assert (await answer(stream)).HasField("accepted")
                for _ in range(4):
                    await leaf.given()

            # Of the wide one there is one more at first, and then as many as leave no place idle if all are alike, but
            # no more than have shown what they take.
            await begun("m1")
            await grants(stream, 1 + 1, "many")
            await begun("m2")
            await grants(stream, 2 + 1, "many")
            await begun("m3")
            await grants(stream, 3)


async def test_jobs_that_end_together_show_what_those_after_them_will_take(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.uplink.due.SHOWN_S", 3_600)
    async with a_child(certificates, alike()) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=12) as leaf:
            for n in range(3):
                await offered(stream, f"m{n}", "many", {"width": 1})
            given = [await leaf.given() for _ in range(3)]
            await grants(stream, 3 + 3, "many")
            for one in given:
                await leaf.ends(one, DONE)
            await grants(stream, 3, "many")
