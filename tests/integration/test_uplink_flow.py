"""What goes down from a parent to its child's work, and comes up again: priority, limits, repeats, places."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import orjson
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.clock import SystemClock
from holon.context import ActionFactory, JobContext
from holon.domain.blueprint import Blueprint
from holon.domain.client import DEFAULT, Client
from holon.domain.fleet import Skill
from holon.domain.matching import Offering
from holon.domain.task import SUCCESS, Outcome
from holon.domain.tree import Disclose
from holon.engine.requests import Creating
from holon.errors import BlueprintError, StoreUnavailable
from holon.ports import JobRecord, StoreSettings
from holon.rxon.v1 import worker_pb2
from holon.storage import MemoryStorage
from holon.uplink import owner_of
from holon.uplink.credits import RAISES_AT_ONCE
from holon.uplink.provided import Provided, text_of
from holon.worker.leases import Lease
from tests.integration.a_child import PARENT, STORE, Child, Leaf, a_child, answer, offered
from tests.integration.scripted_node import (
    GUARD,
    Certificates,
    ScriptedNode,
    Stream,
    is_at_once,
    keep,
    make_certificates,
)

DONE = Outcome(SUCCESS, b"{}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.uplink.credits.LOOK_S", 0.02)


def blueprints() -> list[Blueprint]:
    work = Blueprint("work", "/work")

    @work.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(
            "leaf", {}, transitions={"success": "end", "cancelled": "tidy"}, priority=initial_data.get("priority", 0)
        )

    @work.handler
    async def tidy(context: JobContext, actions: ActionFactory) -> None:
        actions.dispatch_task(context.initial_data.get("tidies", "nobody"), {}, transitions={"success": "end"})

    @work.handler(is_end=True)
    async def end() -> None: ...

    named = Blueprint("named")

    @named.handler(is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["of"], {}, transitions={"success": "done"})

    @named.handler(is_end=True)
    async def done() -> None: ...

    spread = Blueprint("spread")

    @spread.handler(is_start=True)
    async def fan(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        tasks = [{"task_type": one, "params": {}} for one in initial_data["of"]]
        actions.dispatch_parallel(tasks, "gathered")

    @spread.handler(is_end=True)
    async def gathered() -> None: ...

    fails = Blueprint("fails")

    @fails.handler(is_start=True)
    async def choose(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to(initial_data["end"])

    @fails.handler("for_now", is_end=True, outcome="failed", retry=True)
    async def for_now() -> dict[str, str]:
        return {"why": "the tide"}

    @fails.handler("partly", is_end=True, status="partial")
    async def partly() -> dict[str, int]:
        return {"pages": 3}

    @fails.handler("for_good", is_end=True, outcome="failed")
    async def for_good() -> None: ...

    return [work, named, spread, fails]


def a_line() -> Blueprint:
    """Three dispatches, one after the other."""
    line = Blueprint("line")

    @line.handler(is_start=True)
    async def first(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "second"})

    @line.handler(progress_weight=2)
    async def second(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "third", "again": "first"})

    @line.handler
    async def third(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "over"})

    @line.handler(is_end=True)
    async def over() -> None: ...

    return line


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


async def test_a_task_that_waits_for_busy_workers_only_stays_and_one_without_any_is_given_back(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), escalate_after=0.2, cleanup=0.1) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=1) as leaf:
            await offered(stream, "t1", "work", {})
            first = await leaf.given()
            await offered(stream, "t2", "work", {})
            assert {(await answer(stream)).WhichOneof("update") for _ in range(2)} == {"accepted"}
            await asyncio.sleep(0.5)
            await leaf.ends(first, DONE)
            assert (await leaf.given()).attempt == 1
            assert (await answer(stream)).HasField("result")
        # Nobody is left: what names the skill is not begun, and what finds that out only then is given back; but not
        # what a worker had once.
        await offered(stream, "t3", "named", {"of": "leaf"})
        assert (await answer(stream)).HasField("accepted")
        given_back = await answer(stream)
        assert (given_back.task_id, given_back.rejected.reason) == ("t3", "UNSERVABLE")
        assert "no worker connected to this node offers skill 'leaf'" in given_back.rejected.message
        # Who looks at the job is not told that the parent wanted that.
        (error,) = {one.job.error.message for one in await child.jobs() if one.job.error is not None}
        assert error == "cancelled by the uplink: its task went back to the parent holon, for nobody here can do it"
        await offered(stream, "t4", "work", {})
        given_back = await answer(stream)
        assert (given_back.task_id, given_back.rejected.reason) == ("t4", "UNSERVABLE")
        # It may come again as soon as there are credits for it.
        assert is_at_once(given_back)


async def test_what_a_worker_has_had_is_not_given_back_after_a_restart_either(certificates: Certificates) -> None:
    fast = StoreSettings("n1", lease=300, offer=300)
    async with MemoryStorage(fast, SystemClock()) as store, ScriptedNode(certificates) as parent:
        more: dict[str, Any] = {"store": store, "parent": parent, "escalate_after": 0.1, "cleanup": 0.1}
        async with a_child(certificates, blueprints(), **more) as child:
            stream = await child.linked()
            async with Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
                await offered(stream, "t1", "work", {})
                lost = await leaf.given()
                await child.engine.touches.flush()
                assert (await answer(stream)).HasField("accepted")
            # Its lease ends, and it waits again.
            async with asyncio.timeout(GUARD):
                while (task := await store.task(lost.task_id)) is None or task.state != "queued":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        async with a_child(certificates, blueprints(), **more) as child:
            stream = await child.linked(leases=keep("t1"))
            # Another job comes to be given back meanwhile.
            await offered(stream, "t2", "named", {"of": "nobodys"})
            while (update := await answer(stream)).WhichOneof("update") != "rejected":
                pass
            assert (update.task_id, update.rejected.reason) == ("t2", "UNSERVABLE")
            assert child.uplink.held == 1
            async with Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
                await leaf.ends(await leaf.given(), DONE)
                assert (await stream.result()).task_id == "t1"


async def test_what_the_workers_of_other_nodes_cannot_do_is_given_back_though_they_have_the_skill(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), escalate_after=0.2, cleanup=0.1) as child:
        text, _ = text_of(Provided(frozenset({"leaf"}), frozenset({Offering("leaf", contract="of-other-params")})))
        await child.store.put_document("providers", "n2", text, version=0)
        stream = await child.linked()
        await offered(stream, "t1", "named", {"of": "leaf"})
        assert (await answer(stream)).HasField("accepted")
        assert (await answer(stream)).rejected.reason == "UNSERVABLE"


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
        assert given_back.rejected.message == "the task was taken back"


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
        while (update := await second.update()).progress.HasField("summary"):
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
        async with (
            a_child(certificates, [a_line()], store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked(session_id="second", leases=keep("t1"))
            await leaf.given()
            assert await heard(stream) == 25


async def test_a_fan_out_is_given_back_while_none_of_it_was_with_a_worker(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), escalate_after=0.2, cleanup=0.1) as child:
        stream = await child.linked()
        await offered(stream, "t1", "spread", {"of": ["leaf", "nobodys"]})
        assert (await answer(stream)).HasField("accepted")
        assert (await answer(stream)).rejected.reason == "UNSERVABLE"
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=1) as leaf:
            await offered(stream, "t2", "spread", {"of": ["leaf", "nobodys"]})
            given = await leaf.given()
            await asyncio.sleep(0.6)
            # And one whose workers are busy waits.
            await offered(stream, "t3", "spread", {"of": ["leaf"]})
            assert {(await answer(stream)).WhichOneof("update") for _ in range(2)} == {"accepted"}
            await asyncio.sleep(0.6)
            await leaf.ends(given, DONE)
            assert (await leaf.given()).job_id != given.job_id


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
            await child.engine.jobs.cancel(owner_of(PARENT).name, (await child.jobs())[0].job.id, insist=False)
            await leaf.ends(sweeping, DONE)
            await child.until(lambda: jobs.get("t1") is None)
            (record,) = await child.jobs()
            assert record.job.error is not None
            assert record.job.error.message == "cancelled, and cleaned up"


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


async def credits_of(stream: Stream, skill: str = "") -> int:
    """How many tasks the child says that it may hold, in all or of a skill, once it says nothing else for a while."""
    granted = -1
    while True:
        try:
            async with asyncio.timeout(0.3):
                said = (await stream.message("heartbeat")).heartbeat
        except TimeoutError:
            return granted
        if skill:
            granted = {one.skill: one.credits for one in said.offering_credits}.get(skill, granted)
        else:
            granted = said.credits


async def grants(stream: Stream, number: int, skill: str = "") -> None:
    """The child comes to say that it may hold so many tasks, in all or of a skill."""
    async with asyncio.timeout(GUARD):
        while await credits_of(stream, skill) != number:
            pass


async def hold(child: Child, stream: Stream, leaf: Leaf, number: int) -> None:
    """The parent gives so many tasks, and the leaf has them."""
    for _ in range(number):
        n = len(await child.jobs())
        await offered(stream, f"t{n}", "work", {})
        assert (await answer(stream)).HasField("accepted")
        await leaf.given()


async def test_a_lease_is_extended_only_while_the_store_shows_its_job(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
        stream = await child.linked(heartbeat_interval=Duration(nanos=50_000_000))
        await hold(child, stream, leaf, 1)
        gone = (await child.jobs())[0].job.id
        await hold(child, stream, leaf, 1)
        assert not (await stream.message("heartbeat")).heartbeat.HasField("held")
        read = child.store.job

        async def job(job_id: str) -> JobRecord | None:
            if job_id == gone:
                raise StoreUnavailable("its part of the store is away", retry_after=0.01)
            return await read(job_id)

        monkeypatch.setattr(child.store, "job", job)
        monkeypatch.setattr(child.store, "at_hand", lambda _: None)
        child.engine.following.changed([gone])
        async with asyncio.timeout(GUARD):
            while not (beat := (await stream.message("heartbeat")).heartbeat).HasField("held"):
                pass
            [lease] = beat.held.leases
            assert lease.task_id == "t1"
            monkeypatch.setattr(child.store, "job", read)
            while (await stream.message("heartbeat")).heartbeat.HasField("held"):
                pass


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
        monkeypatch.setattr(child.store, "is_as_created", lambda _: False)
        await child.until(lambda: (one := child.uplink._credits) is not None and one.due[1]["work"] == 3)
        granting = child.uplink._credits
        assert granting is not None
        for task in ("t1", "t2"):
            await offered(stream, task, "work", {})
        given = [await leaf.given() for _ in range(2)]
        assert {(await answer(stream)).WhichOneof("update") for _ in range(2)} == {"accepted"}
        # What would count twice stays so for as long as the store shows nothing.
        await child.until(lambda: granting.due[1]["work"] == 3)
        # Nor is a place gone that a call to the store has for a moment, for what may wait.
        leaf.member.session.promised = 1
        await child.until(lambda: granting.due[1]["work"] == 3)
        leaf.member.session.promised = 0
        # Nor the slots for handlers that one has.
        with child.engine.slots.wanting(child.engine.slots.limit):
            assert granting.due[1]["work"] == 3
        # One is over, and its place is idle, though the parent is not told of it yet.
        await leaf.ends(given[0], DONE)
        await child.until(lambda: (child.uplink.held, granting.due[1]["work"]) == (2, 3))
        shown.set()
        assert (await stream.result()).task_id in ("t1", "t2")
        await child.until(lambda: (child.uplink.held, granting.due[1]["work"]) == (1, 3))


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
    monkeypatch.setattr("holon.uplink.credits.SHOWN_S", 3_600)
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
