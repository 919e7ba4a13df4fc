"""How far a task is, and why it waits, as a child tells its parent."""

from __future__ import annotations

import asyncio

import pytest

from holon.clock import SystemClock
from holon.domain.fleet import Skill
from holon.domain.task import SUCCESS, Outcome
from holon.domain.tree import Disclose
from holon.errors import StoreUnavailable
from holon.rxon.v1 import worker_pb2
from holon.storage import MemoryStorage
from tests.integration.a_child import STORE, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, Stream, keep
from tests.integration.uplink.blueprints import DONE, a_line, blueprints

pytestmark = pytest.mark.usefixtures("soon")


async def test_why_a_task_waits_is_said_and_taken_back_once_a_worker_has_it(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=1) as leaf:
            await offered(stream, "t1", "work", {})
            first = await leaf.given()
            await offered(stream, "t2", "work", {})
            async with asyncio.timeout(GUARD):
                while "busy" not in (why := (await stream.update()).progress.message):
                    pass
                assert why == "in a holon below: waiting: every worker with skill 'leaf' is busy"
                await leaf.ends(first, DONE)
                await leaf.given()
                while (update := await stream.update()).task_id != "t2" or update.progress.HasField("summary"):
                    pass
            # Alone, for beside a percentage no message is no news.
            assert update.WhichOneof("update") == "progress"
            assert update.progress == worker_pb2.TaskProgress()


async def test_who_discloses_nothing_says_how_far_a_task_is_and_that_it_waits_but_not_in_words_of_its_own(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), disclose=Disclose.NONE, escalate_after=0.2, cleanup=0.1) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=1) as leaf:
            await offered(stream, "t1", "work", {})
            first = await leaf.given()
            await offered(stream, "t2", "work", {})
            async with asyncio.timeout(GUARD):
                while not (said := (await stream.update()).progress.message):
                    pass
            assert said == "waiting in a holon below"
            assert child.engine.workers.progress(leaf.member, first.task_id, first.lease_id, 50.0, "secrets")
            await child.engine.touches.flush()
            async with asyncio.timeout(GUARD):
                while not (far := (await stream.update()).progress).HasField("percent"):
                    pass
            assert (far.percent > 0, far.message) == (True, "")
        await offered(stream, "t3", "named", {"of": "nobodys"})
        async with asyncio.timeout(GUARD):
            while not (given_back := await stream.update()).HasField("rejected"):
                pass
        assert (given_back.task_id, given_back.rejected.reason) == ("t3", "UNSERVABLE")
        assert given_back.rejected.message == "the parent took the task back"


async def test_what_the_parent_may_not_have_heard_of_a_tasks_progress_is_said_again_on_a_new_stream(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "work", {})
        await leaf.given()
        first.end()
        second = await child.linked(session_id="second", leases=keep("t1"))
        # It waits no more, whatever was said before.
        while (update := await second.update()).HasField("accepted") or update.progress.HasField("summary"):
            pass
        assert (update.task_id, update.WhichOneof("update")) == ("t1", "progress")
        assert update.progress == worker_pb2.TaskProgress()


async def test_the_progress_of_a_job_is_by_the_states_that_it_has_passed_and_never_falls(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [a_line()]) as child, Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
        stream = await child.linked()
        told: list[float] = []

        async def hears(percent: float) -> None:
            async with asyncio.timeout(GUARD):
                while told[-1:] != [percent]:
                    if (update := await stream.update()).progress.HasField("percent"):
                        told.append(update.progress.percent)

        async def over(status: str = SUCCESS) -> None:
            await leaf.ends(await leaf.given(), Outcome(status, b"{}"))

        await offered(stream, "t1", "line", {})
        await over()
        await hears(25)
        second = await leaf.given()
        await leaf.says(second, 50)
        await hears(50)
        # Once more: it is where it was, until it is further.
        await leaf.ends(second, Outcome("again", b"{}"))
        await over()
        again = await leaf.given()
        await leaf.says(again, 80)
        await hears(65)
        await leaf.ends(again, DONE)
        await hears(75)
        last = await leaf.given()
        await leaf.says(last, 100)
        await hears(99)
        await leaf.ends(last, DONE)
        assert (await answer(stream)).HasField("result")
        assert told == sorted(told)


async def heard(stream: Stream) -> float:
    """The next percentage that a child says."""
    while not (update := await stream.update()).progress.HasField("percent"):
        pass
    return update.progress.percent


async def test_progress_does_not_fall_either_when_a_child_starts_again_whose_job_went_back(
    certificates: Certificates,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with (
            a_child(certificates, [a_line()], store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked()
            await offered(stream, "t1", "line", {})
            await leaf.ends(await leaf.given(), DONE)
            assert await heard(stream) == 25
            second = await leaf.given()
            await leaf.says(second, 50)
            assert await heard(stream) == 50
            await leaf.ends(second, Outcome("again", b"{}"))
            await leaf.given()
        async with (
            a_child(certificates, [a_line()], store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked(session_id="second", leases=keep("t1"))
            await leaf.says(await leaf.given(), 40)
            # What it has left is passed; how far it was in that is not known any more.
            assert await heard(stream) == 75


async def test_a_child_whose_history_cannot_be_read_links_all_the_same(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("the database of the history is away")

    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with (
            a_child(certificates, [a_line()], store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            await offered(await child.linked(), "t1", "line", {})
            await leaf.ends(await leaf.given(), DONE)
            await leaf.given()
        monkeypatch.setattr(store, "history", away)
        monkeypatch.setattr("holon.uplink.running._HISTORY_S", 0.05)
        async with (
            a_child(certificates, [a_line()], store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked(session_id="second", leases=keep("t1"))
            await leaf.given()
            assert await heard(stream) == 25
