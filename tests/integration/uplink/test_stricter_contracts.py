"""A child whose contract becomes stricter while tasks wait for it at its parent."""

from __future__ import annotations

from collections import Counter

from holon.domain.fleet import Catalog, Skill
from tests.integration.a_child import Leaf
from tests.integration.grpc_node import Node
from tests.integration.uplink.blueprints import DONE
from tests.integration.uplink.children import child_of

TASKS = 100
LENIENT = Skill("t")
STRICT = Skill("t", input_schema={"type": "object", "required": ["photo"]})


async def test_what_fits_is_done_there_and_the_rest_waits_for_another_and_no_attempt_is_used(
    parent: Node, soon: None
) -> None:
    def contracts() -> set[str]:
        return {one.contract for session in parent.engine.dispatcher.sessions for one in session.offerings}

    async with (
        child_of(parent, "child-1", [], skills=("t",)) as first,
        Leaf(first, "leaf", LENIENT, credits=1) as leaf,
    ):
        begun = await parent.create(photo=0)
        given = await leaf.given()
        jobs = [await parent.create(**{"photo" if n % 2 else "text": n}) for n in range(TASKS)]
        before = contracts()
        await first.workers.offers(leaf.member, Catalog((STRICT,)))
        await parent.until(lambda: contracts() != before)
        await leaf.ends(given, DONE)
        assert (await parent.ended(begun)).status == "finished"
        for _ in range(TASKS // 2):
            await leaf.ends(await leaf.given(), DONE)
        for job in jobs[1::2]:
            assert (await parent.ended(job)).status == "finished"
        waiting = [await parent.job(job) for job in jobs[::2]]
        why = "waiting: no worker connected to this node with skill 't' accepts these params"
        wrong = "params.photo is required"
        assert {one.progress_message for one in waiting} == {f"{why}: {wrong}"}
        assert leaf.offers.empty()

        async with (
            child_of(parent, "child-2", [], skills=("t",)) as second,
            Leaf(second, "leaf", LENIENT, credits=10) as other,
        ):
            for _ in range(TASKS // 2):
                await other.ends(await other.given(), DONE)
            for job in jobs[::2]:
                assert (await parent.ended(job)).status == "finished"
    ends = [[one for one in await parent.history(job) if one.event_type == "task_finished"] for job in jobs]
    assert Counter(one.worker_id for (one,) in ends) == {"child-1": TASKS // 2, "child-2": TASKS // 2}
    assert {one.attempt_number for (one,) in ends} == {1}
