"""A parent's task whose job has a part of it done by another: what holds for that holds for both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.domain.job import Status
from holon.domain.task import FAILURE, SUCCESS, Outcome, TaskError
from holon.engine.requests import Creating
from holon.rxon.v1 import types_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import owner_of, unknown
from holon.uplink.delegation import origin_key
from tests.integration.a_child import PARENT, STORE, Child, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.blueprints import in_parts

PRICED = Skill("a", price=4)
# A job that waits for its part, and that for its task.
GOES_ON = (Status.WAITING_FOR_CHILD, Status.WAITING_FOR_WORKER)


def whole_and_part() -> list[Blueprint]:
    """`whole` runs `part`, which is not offered, and that asks for `a`."""
    whole, part = Blueprint("whole"), Blueprint("part", internal=True)

    @whole.handler("start", is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.run_blueprint("part", initial_data, {"success": "end"})

    @part.handler("ask", is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task("a", initial_data, {"success": "end"})

    for one in (whole, part):

        @one.handler("end", is_end=True)
        async def end() -> None: ...

    return [whole, part]


async def until(child: Child, so: set[tuple[str, tuple[Status, ...]]]) -> None:
    """Wait until this is how jobs and their parts are, by what they are given."""
    found: set[tuple[str, tuple[Status, ...]]] = set()
    async with asyncio.timeout(GUARD):
        while found != so:
            await asyncio.sleep(0.001)
            each = sorted(await child.jobs(), key=lambda one: one.job.depth)
            names = {str(one.job.initial_data.get("n")) for one in each}
            found = {(n, tuple(one.job.status for one in each if one.job.initial_data.get("n") == n)) for n in names}


async def test_what_a_part_may_use_cost_and_take_is_what_the_parent_allows_the_task(certificates: Certificates) -> None:
    async with a_child(certificates, whole_and_part()) as child, Leaf(child.engine, "w", PRICED) as leaf:
        stream = await child.linked()
        lineage = types_pb2.Lineage(budget=9, skill_limit=types_pb2.SkillLimit(skills=["whole", "a"]))
        await offered(stream, "t1", "whole", {"n": 1}, lineage=lineage, priority=3.0, time_left=Duration(seconds=50))
        given = await leaf.given()
        assert (given.allowed_skills, given.max_cost, given.priority) == (("a", "whole"), 4, 3.0)
        assert given.time_left is not None
        assert 40_000 < given.time_left <= 50_000
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(given, Outcome(SUCCESS, b'{"m":2}'), cost=3)
        result = (await stream.result()).result
        assert (result.status, result.data.data, result.cost) == ("success", b'{"m":2}', 3)


async def test_why_a_part_failed_is_told_to_the_parent_level_by_level(certificates: Certificates) -> None:
    async with a_child(certificates, whole_and_part()) as child, Leaf(child.engine, "w", PRICED) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "whole", {})
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(await leaf.given(), Outcome(FAILURE, error=TaskError("INVALID_INPUT_ERROR", "no luck")))
        error = (await stream.result()).result.error
        assert error.code == "CHILD_FAILED"
        told = [(one.code, one.name) for one in error.causes]
        assert told == [("CHILD_FAILED", "whole"), ("INVALID_INPUT_ERROR", "part")]


async def test_a_part_ends_with_the_time_of_the_parents_task(certificates: Certificates) -> None:
    async with a_child(certificates, whole_and_part()) as child, Leaf(child.engine, "w", PRICED) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "whole", {"n": "late"}, time_left=Duration(nanos=400_000_000))
        await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        result = (await answer(stream)).result
        assert (result.status, result.error.code) == (FAILURE, "DEADLINE_EXCEEDED")
        await until(child, {("late", (Status.CANCELLED, Status.CANCELLED))})


async def test_a_part_of_a_job_that_the_parent_asks_for_is_not_taken_for_one_that_nobody_does(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "UNKNOWN_AFTER_S", 0.1)
    async with MemoryStorage(STORE, SystemClock()) as store:
        async with a_child(certificates, whole_and_part(), store=store) as child, Leaf(child.engine, "w", PRICED):
            stream = await child.linked()
            await offered(stream, "t1", "whole", {"n": "wanted"})
            assert (await answer(stream)).HasField("accepted")
            stray = Creating("whole", {"n": "stray"}, origin_key("stray", 1, 0))
            await child.engine.jobs.create_for_parent(owner_of(PARENT), [stray])
            await until(child, {("wanted", GOES_ON), ("stray", GOES_ON)})
        async with a_child(certificates, whole_and_part(), store=store) as child:
            await child.linked()
            await until(child, {("wanted", GOES_ON), ("stray", (Status.CANCELLED, Status.CANCELLED))})


@pytest.mark.usefixtures("soon")
async def test_what_nobody_can_do_in_a_part_is_given_back_unless_a_worker_had_it(certificates: Certificates) -> None:
    async with a_child(certificates, in_parts(), escalate_after=0.2, cleanup=0.1) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "w", Skill("a")) as leaf:
            await offered(stream, "t1", "outer", {"of": "a"})
            had = await leaf.given()
            assert (await answer(stream)).HasField("accepted")
            await child.engine.touches.flush()
        await offered(stream, "t2", "outer", {"of": "nobodys"})
        while (update := await answer(stream)).WhichOneof("update") != "rejected":
            pass
        assert (update.task_id, update.rejected.reason) == ("t2", "UNSERVABLE")
        assert "offers skill 'nobodys'" in update.rejected.message
        assert child.uplink.held == 1
        assert had.attempt == 1
