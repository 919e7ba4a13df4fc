"""What a task cost that a child gives back: its parent is told, until that is known."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from holon.domain.fleet import Skill
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.a_child import PARENT, Leaf, a_child, answer, offered
from tests.integration.scripted_node import Certificates, keep
from tests.integration.uplink.paying import DONE, half_done, paying, twice

A = Skill("a", price=2)


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
        await half_done(leaf, old)
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
        await half_done(leaf, first)
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


async def test_a_task_that_cost_nothing_is_given_back_without_a_word_of_it(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "a")], escalate_after=0.1, cleanup=0.1) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "w1", A, credits=0):
            await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
            assert (await answer(stream)).HasField("accepted")
        rejected = (await answer(stream)).rejected
        assert (rejected.reason, rejected.HasField("cost")) == ("UNSERVABLE", False)
