"""What work may cost, over holons below each other: who is given it, and that never more is spent than it may."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.costs import Cost
from holon.domain.fleet import Skill
from holon.domain.task import SUCCESS, Outcome
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import running
from holon.worker import Result
from tests.integration.a_child import PARENT, STORE, Leaf, a_child, answer, offered
from tests.integration.grpc_node import Node, a_node, json_payload, offering, result, update, updates
from tests.integration.holon_line import a_holon
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, keep, make_certificates
from tests.integration.test_holons_at_the_door import identity
from tests.integration.test_worker_admission import admission

DONE = Outcome(SUCCESS, b"{}")
A = Skill("a", price=2)
HOLON = types_pb2.CAPABILITY_HOLON


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def parent(tmp_path: Path) -> Any:
    async with a_node(admission=admission(tmp_path, '["child*"]\nkind = "holon"')) as node:
        node.engine.blueprints.register_all([paying("above", "t", max_cost=5)])
        yield node


def paying(name: str, skill: str, *, max_cost: Cost = None, price: Cost = None) -> Blueprint:
    """Has a skill done for so much at most."""
    blueprint = Blueprint(name, "/" + name, price=price)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task(skill, {}, {"success": "end"}, max_cost=max_cost)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def above(parent: Node) -> str:
    request = job_pb2.CreateJobRequest(blueprint_name="above", initial_data=json_payload({}))
    created: job_pb2.CreateJobResponse = await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    return created.job_id


async def test_a_task_waits_for_who_declares_a_price_within_what_it_may_cost(parent: Node) -> None:
    await parent.worker("w1", offering("t", price=6))
    await parent.worker("w2", offering("t"))
    job_id = await above(parent)
    job = await parent.job(job_id)
    assert job.progress_message == (
        "waiting: no worker connected to this node with skill 't' declares a price within max_cost 5"
    )
    cheap = await parent.worker("w3", offering("t", price=5))
    given = await cheap.offer()
    assert (given.job_id, given.lineage.budget) == (job_id, 5)
    # The others have room for what they may have.
    await cheap.beat(1)
    for _ in range(2):
        await parent.create(skill="t")
    await parent.until(lambda: all(one.leases for one in parent.engine.dispatcher.sessions))


async def test_a_task_says_that_the_price_is_why_it_waits_where_only_they_are_cheap_who_do_not_take_its_params(
    parent: Node,
) -> None:
    needs_more = json_payload({"type": "object", "required": ["q"]})
    await parent.worker("w1", offering("t", price=5, input_schema=needs_more))
    await parent.worker("w2", offering("t", price=6))
    job = await parent.job(await above(parent))
    assert job.progress_message == (
        "waiting: no worker connected to this node with skill 't' that accepts these params declares a price within "
        "max_cost 5"
    )


async def test_a_worker_that_lowers_its_price_is_given_what_waited_for_that(parent: Node) -> None:
    worker = await parent.worker("w1", offering("t", price=6))
    job_id = await above(parent)
    await worker.beat(1)
    await worker.send(
        worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=[offering("t", price=4)]))
    )
    assert (await worker.offer()).job_id == job_id


async def test_a_holon_that_passes_no_limit_on_is_offered_no_task_that_has_one(parent: Node) -> None:
    old = await parent.worker(
        "child-1", offering("t", price=1), capabilities=[HOLON], holon_identity=identity("old"), instance_id="i1"
    )
    job_id = await above(parent)
    await old.beat(1)
    assert "declares a price within max_cost 5" in (await parent.job(job_id)).progress_message
    keeps = [HOLON, types_pb2.CAPABILITY_BUDGET]
    young = await parent.worker(
        "child-2", offering("t", price=1), capabilities=keeps, holon_identity=identity("young"), instance_id="i2"
    )
    given = await young.offer()
    assert (given.job_id, given.lineage.budget) == (job_id, 5)


@pytest.mark.parametrize(("own", "below"), [(None, 2), (3, 3), (5, 5)])
async def test_a_childs_task_costs_no_more_than_its_parents_task_may(
    certificates: Certificates, own: Cost, below: int
) -> None:
    async with (
        a_child(certificates, [paying("t", "a", max_cost=own, price=4)]) as child,
        Leaf(child.engine, "w1", Skill("a")) as silent,
        Leaf(child.engine, "w2", Skill("a", price=2)) as cheap,
    ):
        stream = await child.linked()
        assert types_pb2.CAPABILITY_BUDGET in stream.hello.capabilities
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        given = await cheap.given()
        assert given.max_cost == below
        await cheap.ends(given, DONE)
        # What it was charged goes up: what its worker declares, where that says nothing else.
        result = (await stream.result()).result
        assert (result.status, result.cost) == ("success", 2)
        assert silent.offers.empty()


async def test_a_job_whose_result_is_too_large_for_the_parent_costs_what_it_did_and_says_how_it_was_done(
    certificates: Certificates,
) -> None:
    wordy = Blueprint("wordy", price=20)

    @wordy.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"})

    @wordy.handler(is_end=True)
    async def end() -> dict[str, str]:
        return {"text": "x" * 2_000}

    async with a_child(certificates, [wordy]) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked(max_payload_bytes=1_000)
        await offered(stream, "t1", "wordy", {}, lineage=types_pb2.Lineage(budget=20))
        await leaf.ends(await leaf.given(), DONE, cost=1)
        result = (await stream.result()).result
        assert (result.error.code, result.cost, result.summary.current_state) == ("LIMIT_EXCEEDED", 1, "end")


async def test_a_parent_is_told_in_full_what_nobody_has_reported(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "a", price=5)]) as child, Leaf(child.engine, "w1", A) as lost:
        stream = await child.linked()
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        first = await lost.given()
        # Its worker began anew, and knows nothing of what it held: what that cost is never said.
        async with Leaf(child.engine, "w1", A) as leaf:
            again = await leaf.given()
            assert (again.task_id, again.max_cost) == (first.task_id, 2)
            await leaf.ends(again, DONE, cost=1)
            assert (await stream.result()).result.cost == 3


async def test_what_a_task_cost_that_a_child_gives_back_is_told_with_that(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [twice("t")], cleanup=0.1) as child,
        Leaf(child.engine, "w1", A) as leaf,
    ):
        stream = await child.linked()
        for task, running, cost in (("t1", False, 1), ("t2", True, 3)):
            await offered(stream, task, "t", {}, lineage=types_pb2.Lineage(budget=5))
            assert (await answer(stream)).HasField("accepted")
            await leaf.ends(await leaf.given(), DONE, cost=1)
            last = await leaf.given()
            if not running:
                assert leaf._engine.workers.rejected(leaf.member, last.task_id, last.lease_id)
            await stream.stop(task, "LEASE_LOST")
            rejected = (await answer(stream)).rejected
            # With what is reserved for the one that runs: nobody waits for what it says.
            assert (rejected.reason, rejected.cost) == ("STALE_OFFER", cost)


async def test_what_a_task_cost_that_was_given_back_while_a_new_stream_was_opened_is_told_on_that_too(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [twice("t")]) as child, Leaf(child.engine, "w1", A) as leaf:
        old = await child.linked(session_id="old")
        await offered(old, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(old)).HasField("accepted")
        await leaf.ends(await leaf.given(), DONE, cost=1)
        await leaf.given()
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await child.parent.session()
        await old.stop("t1", "LEASE_LOST")
        assert (await answer(old)).rejected.cost == 3
        terms = {"holon_id": PARENT, "capabilities": [types_pb2.CAPABILITY_HOLON]}
        await new.welcome("new", leases=keep("t1"), **terms)
        rejected = (await answer(new)).rejected
        assert (rejected.reason, rejected.cost) == ("STALE_OFFER", 3)


async def test_what_a_task_cost_that_was_given_back_on_a_stream_that_broke_is_told_until_that_is_known(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [twice("t")], cleanup=0.1) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        await leaf.ends(await leaf.given(), DONE, cost=1)
        await leaf.given()
        await first.stop("t1", "LEASE_LOST")
        assert (await answer(first)).rejected.cost == 3
        # For all that the child knows, this parent had gone by then.
        first.end()
        second = await child.linked(session_id="second")
        told = await second.result()
        assert (told.lease_id, told.result.status, told.result.cost) == ("t1-lease", "cancelled", 3)
        await second.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
        await offered(second, "t2", "unknown", {})
        assert (await answer(second)).HasField("rejected")
        second.end()
        third = await child.linked(session_id="third")
        assert not third.hello.resume.leases
        await offered(third, "t3", "unknown", {})
        update = await answer(third)
        assert (update.task_id, update.WhichOneof("update")) == ("t3", "rejected")


async def test_it_is_told_again_too_that_a_task_cost_nothing_that_was_given_back(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "nobodys")], cleanup=0.1) as child:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        await first.stop("t1", "LEASE_LOST")
        assert not (await answer(first)).rejected.HasField("cost")
        first.end()
        second = await child.linked(session_id="second")
        told = (await second.result()).result
        assert (told.status, told.HasField("cost"), told.cost) == ("cancelled", True, 0)


@pytest.mark.parametrize("arrives", [True, False])
async def test_what_is_told_twice_of_a_task_that_was_given_back_is_charged_once(parent: Node, arrives: bool) -> None:
    first = await parent.worker("w1", offering("t", price=5))
    request = job_pb2.CreateJobRequest(blueprint_name="above", initial_data=json_payload({}), budget=20)
    created = await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    offer = await first.offer()
    if arrives:
        await first.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await first.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason="STALE_OFFER", cost=3))))
        await parent.until(lambda: not any(one.leases for one in parent.engine.dispatcher.sessions))
    second = await parent.worker("w1", offering("t", price=5), credits=0)
    await second.send(updates(result(offer, status="cancelled", cost=3)))
    assert (await second.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
    assert (await parent.job(created.job_id)).cost == 3


async def test_a_lease_that_was_lost_costs_nothing_where_its_job_goes_on_under_a_newer_one(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_COMES_BACK_S", GUARD)
    async with a_child(certificates, [twice("t")]) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        await leaf.ends(await leaf.given(), DONE, cost=1)
        first.end()
        second = await child.linked(session_id="second")
        await offered(second, "t1", "t", {}, lease_id="newer", attempt=2, lineage=types_pb2.Lineage(budget=5))
        said = [await answer(second) for _ in range(2)]
        assert {(one.lease_id, one.WhichOneof("update")) for one in said} == {
            ("t1-lease", "result"),
            ("newer", "accepted"),
        }
        free = next(one.result for one in said if one.HasField("result"))
        assert (free.status, free.HasField("cost"), free.cost) == ("cancelled", True, 0)
        await second.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
        await leaf.ends(await leaf.given(), DONE, cost=1)
        told = await second.result()
        assert (told.lease_id, told.result.status, told.result.cost) == ("newer", "success", 2)


async def test_what_a_task_cost_that_others_took_over_while_the_link_was_away_is_told_until_that_is_known(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [twice("t")], cleanup=0.1) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        await leaf.ends(await leaf.given(), DONE, cost=1)
        await leaf.given()
        first.end()
        # It goes on with no lease.
        second = await child.linked(session_id="second")
        told = await second.result()
        assert (told.task_id, told.lease_id) == ("t1", "t1-lease")
        second.end()
        third = await child.linked(session_id="third")
        told = await third.result()
        assert (told.result.status, told.result.cost, told.resent) == ("cancelled", 3, True)
        await third.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
        # As after any lease that was taken back, the task may come again, and begins anew.
        await offered(third, "t1", "t", {}, lease_id="again", attempt=2, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(third)).HasField("accepted")
        await leaf.ends(await leaf.given(), DONE, cost=1)
        await leaf.ends(await leaf.given(), DONE, cost=1)
        assert (await third.result()).result.cost == 2


async def test_what_a_task_cost_that_others_took_over_is_told_though_the_child_ends_before_that_is_known(
    certificates: Certificates,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        more: dict[str, Any] = {"store": store, "parent": parent, "cleanup": 0.1}
        async with a_child(certificates, [twice("t")], **more) as child, Leaf(child.engine, "w1", A) as leaf:
            first = await child.linked(session_id="first")
            await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
            assert (await answer(first)).HasField("accepted")
            await leaf.ends(await leaf.given(), DONE, cost=1)
            await leaf.given()
            first.end()
            second = await child.linked(session_id="second")
            assert (await second.result()).result.cost == 3
        async with a_child(certificates, [twice("t")], **more) as child, Leaf(child.engine, "w1", A) as leaf:
            third = await child.linked(session_id="third")
            told = await third.result()
            assert (told.lease_id, told.result.status, told.result.cost) == ("t1-lease", "cancelled", 3)
            await third.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
            # As after any lease that was taken back, the task may come again, and begins anew.
            await offered(third, "t1", "t", {}, lease_id="again", attempt=2, lineage=types_pb2.Lineage(budget=5))
            assert (await answer(third)).HasField("accepted")
            await leaf.ends(await leaf.given(), DONE, cost=1)
            await leaf.ends(await leaf.given(), DONE, cost=1)
            assert (await third.result()).result.cost == 2


async def test_what_was_begun_by_a_worker_that_is_shut_out_is_told_as_what_it_may_have_cost(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [paying("t", "a")]) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        await leaf.given()
        child.engine.workers.expel(leaf.member)
        async with Leaf(child.engine, "w2", A) as other:
            await other.ends(await other.given(), DONE, cost=1)
            assert (await stream.result()).result.cost == 3


async def test_it_is_told_too_that_a_task_cost_nothing_that_was_lost_with_the_link(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "nobodys")], cleanup=0.1) as child:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        await offered(first, "t2", "t", {})
        assert {(await answer(first)).WhichOneof("update") for _ in range(2)} == {"accepted"}
        first.end()
        second = await child.linked(session_id="second")
        told = {one.task_id: one.result for one in [await second.result() for _ in range(2)]}
        assert {one.status for one in told.values()} == {"cancelled"}
        # What has no budget waits for no such word.
        assert (told["t1"].HasField("cost"), told["t1"].cost, told["t2"].HasField("cost")) == (True, 0, False)


async def test_what_a_task_cost_that_its_parent_cancelled_is_told_though_the_link_was_away_for_its_end(
    certificates: Certificates,
) -> None:
    blueprint = Blueprint("t")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end", "cancelled": "tidy"})

    @blueprint.handler
    async def tidy(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    async with a_child(certificates, [blueprint]) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        work = await leaf.given()
        await first.stop("t1")
        cleaning = await leaf.given()
        first.end()
        second = await child.linked(session_id="second")
        # Once it has taken the terms of this stream, the lease is lost.
        await offered(second, "t2", "unknown", {})
        assert (await answer(second)).HasField("rejected")
        await leaf.ends(work, DONE, cost=2)
        await leaf.ends(cleaning, DONE, cost=1)
        told = (await second.result()).result
        assert (told.status, told.cost) == ("cancelled", 3)


async def test_a_task_that_cost_nothing_is_given_back_without_a_word_of_it(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "a")], escalate_after=0.1, cleanup=0.1) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "w1", A, credits=0):
            await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
            assert (await answer(stream)).HasField("accepted")
        rejected = (await answer(stream)).rejected
        assert (rejected.reason, rejected.HasField("cost")) == ("UNSERVABLE", False)


async def test_a_child_sends_nothing_that_may_cost_more_than_its_parents_task(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [paying("t", "a", max_cost=6, price=5)]) as child,
        Leaf(child.engine, "w1", Skill("a", price=1)) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "CHILD_FAILED")
        assert [one.code for one in result.error.causes] == ["LIMIT_EXCEEDED"]
        assert "cost: " in result.error.message
        # Not what the blueprint declares, for nothing of it was done.
        assert (result.HasField("cost"), result.cost) == (True, 0)
        assert leaf.offers.empty()


async def test_a_skill_that_is_passed_on_is_done_within_the_budget(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [], skills=("a",)) as child,
        Leaf(child.engine, "w1", Skill("a", price=6)) as dear,
        Leaf(child.engine, "w2", Skill("a", price=3)) as cheap,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "a", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        given = await cheap.given()
        assert given.max_cost == 5
        await cheap.ends(given, DONE, cost=4)
        assert (await stream.result()).result.cost == 4
        assert dear.offers.empty()


async def test_a_parent_is_told_the_price_of_a_blueprint_and_the_dearest_of_a_skill(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [paying("t", "a", price=4), paying("u", "a")], skills=("a",)) as child,
        Leaf(child.engine, "w1", Skill("a", price=6)),
        Leaf(child.engine, "w2", Skill("a", price=0)),
    ):
        stream = await child.linked()
        prices: dict[str, Cost] = {}
        offerings = stream.hello.catalog.offerings
        while len(prices) < 3:
            prices = {one.skill: one.price if one.HasField("price") else None for one in offerings}
            if len(prices) < 3:
                offerings = (await stream.message("catalog")).catalog.offerings
        assert prices == {"t": 4, "u": None, "a": 6}


async def test_a_limit_that_is_none_is_given_back_and_no_job_is_made(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "a")]) as child:
        stream = await child.linked()
        for number, wrong in enumerate((-1, 2**53)):
            await offered(stream, f"t{number}", "t", {}, lineage=types_pb2.Lineage(budget=wrong))
            rejected = (await answer(stream)).rejected
            assert rejected.reason == "UNSUITABLE"
            assert rejected.message.startswith("lineage.budget is ")
        assert await child.jobs() == []


def twice(name: str) -> Blueprint:
    """Has a skill done, and then once more."""
    blueprint = Blueprint(name, "/" + name, price=4)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "again"})

    @blueprint.handler
    async def again(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def spending(name: str, caps: list[Cost]) -> Blueprint:
    """Has a skill done several times at once, and then once more, for up to 40."""
    blueprint = Blueprint(name, "/" + name)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_parallel([{"task_type": "t", "max_cost": cap} for cap in caps], "more")

    @blueprint.aggregator("more")
    async def more(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"}, max_cost=41)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def created(parent: Node, blueprint: str, budget: int) -> str:
    request = job_pb2.CreateJobRequest(blueprint_name=blueprint, initial_data=json_payload({}), budget=budget)
    made: job_pb2.CreateJobResponse = await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    return made.job_id


async def test_branches_that_may_cost_more_than_the_budget_are_not_sent(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("ten", [20] * 10)])
    async with Leaf(parent.engine, "w1", Skill("t", price=20), credits=20) as leaf:
        job = await parent.ended(await created(parent, "ten", 100))
        assert (job.status, job.error.code) == ("failed", "LIMIT_EXCEEDED")
        assert job.error.message.startswith("cost: the tasks of state 'start' may cost more than what is left")
        assert (job.HasField("cost"), job.budget) == (False, 100)
        assert leaf.offers.empty()


async def test_a_task_that_is_dearer_than_the_whole_budget_is_not_sent_and_a_cheaper_worker_does_it(
    parent: Node,
) -> None:
    parent.engine.blueprints.register_all([spending("one", [None])])
    async with Leaf(parent.engine, "dear", Skill("t", price=100)) as dear:
        job = await parent.ended(await created(parent, "one", 50))
        assert (job.status, job.error.code) == ("failed", "LIMIT_EXCEEDED")
        async with Leaf(parent.engine, "cheap", Skill("t", price=9)) as cheap:
            job_id = await created(parent, "one", 50)
            await cheap.ends(await cheap.given(), Outcome(SUCCESS))
            assert (await parent.job(job_id)).cost == 9
        assert dear.offers.empty()


async def test_a_skill_without_a_price_is_named_where_its_tasks_together_may_cost_too_much(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("two", [None, None])])
    async with Leaf(parent.engine, "w1", Skill("t")):
        job = await parent.ended(await created(parent, "two", 50))
        assert job.error.code == "LIMIT_EXCEEDED"
        assert "Nobody here declares a price for skill 't'" in job.error.message


async def test_what_is_not_covered_is_said_in_few_words_however_much_it_is(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("few", [1] * 2), spending("many", [1] * 3_000)])
    few, many = [(await parent.ended(await created(parent, name, 1))).error for name in ("few", "many")]
    assert (few.code, many.code) == ("LIMIT_EXCEEDED", "LIMIT_EXCEEDED")
    assert few.message == many.message
    assert len(many.message) < 250
    # What was charged already is no part of it: the same is said where only that makes it too much.
    parent.engine.blueprints.register_all([spending("late", [0] * 300)])
    async with Leaf(parent.engine, "w1", Skill("t", price=0), credits=300) as leaf:
        job_id = await created(parent, "late", 40)
        for _ in range(300):
            await leaf.ends(await leaf.given(), DONE)
        late = (await parent.ended(job_id)).error
    assert late.code == "LIMIT_EXCEEDED"
    assert len(late.message) < 250


async def test_what_branches_did_not_cost_is_free_again(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("five", [20] * 5)])
    async with Leaf(parent.engine, "w1", Skill("t", price=20), credits=20) as leaf:
        for budget, status in ((100, "failed"), (101, "finished")):
            job_id = await created(parent, "five", budget)
            for _ in range(5):
                await leaf.ends(await leaf.given(), DONE, cost=12)
            if status == "finished":
                last = await leaf.given()
                assert (await parent.job(job_id)).cost == 60
                await leaf.ends(last, DONE, cost=0)
            job = await parent.ended(job_id)
            assert (job.status, job.cost, job.error.code) == (status, 60, "" if budget > 100 else "LIMIT_EXCEEDED")


async def test_a_task_that_names_no_cap_may_cost_what_is_declared(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("two", [None, None])])
    async with Leaf(parent.engine, "w1", Skill("t", price=30), credits=20) as leaf:
        job_id = await created(parent, "two", 60)
        assert [(await leaf.given()).max_cost for _ in range(2)] == [30, 30]
        assert not (await parent.job(job_id)).terminal
        job = await parent.ended(await created(parent, "two", 59))
        assert job.error.code == "LIMIT_EXCEEDED"


async def test_a_worker_that_says_nothing_is_paid_what_it_declares_and_none_more_than_the_cap(parent: Node) -> None:
    parent.engine.blueprints.register_all([paying("free", "t")])
    async with Leaf(parent.engine, "w1", Skill("t", price=3)) as leaf:
        for blueprint, said, cost in (("free", None, 3), ("free", 9, 9), ("above", 9, 5)):
            request = job_pb2.CreateJobRequest(blueprint_name=blueprint, initial_data=json_payload({}))
            job_id = (await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)).job_id
            await leaf.ends(await leaf.given(), DONE, cost=said)
            assert (await parent.ended(job_id)).cost == cost


async def test_what_is_given_back_costs_no_more_than_the_cap(parent: Node) -> None:
    async with Leaf(parent.engine, "w1", Skill("t", price=3)) as leaf:
        job_id = await above(parent)
        first = await leaf.given()
        assert parent.engine.workers.rejected(leaf.member, first.task_id, first.lease_id, again_after=0, cost=9)
        await leaf.ends(await leaf.given(), DONE, cost=1)
        assert (await parent.ended(job_id)).cost == 6


async def test_a_budget_goes_three_levels_down_and_what_it_was_charged_comes_up(tmp_path: Path) -> None:
    async with (
        a_holon(tmp_path, "root", paying("top", "middle")) as root,
        a_holon(tmp_path, "middle", paying("middle", "work", price=8), above=root) as middle,
        a_holon(tmp_path, "last", above=middle, UPLINK_SKILLS="work") as last,
    ):
        worker = last.new_worker("leaf")
        costs = iter((2, 99))

        @worker.skill("work", price=3)
        async def work() -> Result:
            return Result(cost=next(costs))

        async with worker, asyncio.timeout(60):
            # The second says more than what it may cost, which is its price.
            for charged in (2, 3):
                # An offer that is lost while holons tell of each other keeps what it may cost.
                job = (await root.client.create_job("top", {}, budget=100)).job_id
                ended = await root.client.wait_for(job, timeout=60)
                assert (ended.status, ended.cost, ended.budget) == ("finished", charged, 100)
