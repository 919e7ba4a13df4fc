"""A job with a budget never sends what may cost more than is left of it."""

from __future__ import annotations

from holon.domain.fleet import Skill
from tests.integration.a_child import Leaf
from tests.integration.grpc_node import Node
from tests.integration.uplink.paying import DONE, created, spending


async def test_branches_that_may_cost_more_than_the_budget_are_not_sent(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("ten", [20] * 10)])
    async with Leaf(parent.engine, "w1", Skill("t", price=20), credits=20) as leaf:
        job = await parent.ended(await created(parent, "ten", 100))
        assert (job.status, job.error.code) == ("failed", "LIMIT_EXCEEDED")
        assert job.error.message.startswith("cost: the tasks of state 'start' may cost more than is left")
        assert (job.HasField("cost"), job.budget) == (False, 100)
        assert leaf.offers.empty()


async def test_a_task_that_is_dearer_than_the_whole_budget_is_not_sent_and_a_cheaper_worker_does_it(
    parent: Node,
) -> None:
    parent.engine.blueprints.register_all([spending("one", [None])])
    async with Leaf(parent.engine, "dear", Skill("t", price=100)) as dear:
        job_id = await created(parent, "one", 50)
        assert (await parent.job(job_id)).progress_message.endswith("declares a price of at most 50")
        async with Leaf(parent.engine, "cheap", Skill("t", price=9)) as cheap:
            await cheap.ends(await cheap.given(), DONE)
            await cheap.ends(await cheap.given(), DONE)
            job = await parent.ended(job_id)
            assert (job.status, job.cost) == ("finished", 18)
        assert dear.offers.empty()


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


async def test_a_task_that_names_no_cap_may_cost_what_its_worker_declares(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("two", [None, None])])
    async with Leaf(parent.engine, "w1", Skill("t", price=30), credits=20) as leaf:
        job_id = await created(parent, "two", 60)
        assert [(await leaf.given()).max_cost for _ in range(2)] == [30, 30]
        assert not (await parent.job(job_id)).terminal


async def test_what_is_left_goes_to_as_many_branches_as_it_covers(parent: Node) -> None:
    parent.engine.blueprints.register_all([spending("three", [None] * 3)])
    async with Leaf(parent.engine, "w1", Skill("t", price=30), credits=20) as leaf:
        job_id = await created(parent, "three", 89)
        for offer in [await leaf.given() for _ in range(2)]:
            await leaf.ends(offer, DONE)
        job = await parent.ended(job_id)
        # What comes after them is not covered either.
        assert (job.error.code, job.cost) == ("LIMIT_EXCEEDED", 60)
        assert leaf.offers.empty()
