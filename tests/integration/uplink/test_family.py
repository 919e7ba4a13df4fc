"""A parent and its children in one process, over real streams: what one child cannot do, another does."""

from __future__ import annotations

from typing import Any

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.domain.task import SUCCESS, Outcome
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.a_child import Leaf
from tests.integration.grpc_node import Node, offering, result, updates
from tests.integration.node_calls import workers
from tests.integration.uplink.children import child_of

DONE = Outcome(SUCCESS, b'{"done":true}')


def asking() -> Blueprint:
    """Has whatever skill the task names do it."""
    blueprint = Blueprint("t")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data.get("of", "leaf"), {}, transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end(done: bool) -> dict[str, bool]:
        return {"done": done}

    return blueprint


async def test_what_nobody_below_one_child_can_do_is_done_by_another_and_no_attempt_is_used(parent: Node) -> None:
    async with child_of(parent, "child-1", [asking()], escalate_after=0.3):
        job_id = await parent.create()
        await parent.until(lambda: any(one.leases for one in parent.engine.dispatcher.sessions))
        async with (
            child_of(parent, "child-2", [asking()], escalate_after=60.0) as second,
            Leaf(second, "leaf", Skill("leaf")) as leaf,
        ):
            await leaf.ends(await leaf.given(), DONE)
            assert (await parent.ended(job_id)).status == "finished"
            (line,) = [one for one in await parent.history(job_id) if one.event_type == "task_finished"]
            assert line.worker_id == "child-2"
            assert b'"generation":1' in line.context_snapshot.data
            # Nor does it speak against who cannot do it.
            assert {one.worker_id: one.reputation for one in await workers(parent)} == {"child-1": 1.0, "child-2": 1.0}


async def test_a_job_that_ends_for_now_is_done_again_and_one_that_ends_for_good_is_not(parent: Node) -> None:
    runs: list[str] = []
    blueprint = Blueprint("t")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        runs.append(initial_data["way"])
        actions.go_to("end" if initial_data["way"] == "for_now" and len(runs) > 1 else initial_data["way"])

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    @blueprint.handler(is_end=True, outcome="failed", retry=True)
    async def for_now() -> None: ...

    @blueprint.handler(is_end=True, outcome="failed")
    async def for_good() -> None: ...

    async with child_of(parent, "child-1", [blueprint]):
        assert (await parent.ended(await parent.create(way="for_now"))).status == "finished"
        assert runs == ["for_now", "for_now"]
        runs.clear()
        assert (await parent.ended(await parent.create(way="for_good"))).status == "failed"
        assert runs == ["for_good"]


async def test_a_plain_worker_has_no_word_on_whether_another_try_may_help(parent: Node) -> None:
    worker = await parent.worker("w1", offering("t"))
    job_id = await parent.create()
    error = types_pb2.TaskError(code="PERMANENT_ERROR", message="no", retryable=True)
    await worker.send(updates(result(await worker.offer(), status="failure", error=error)))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await parent.ended(job_id)).status == "failed"
