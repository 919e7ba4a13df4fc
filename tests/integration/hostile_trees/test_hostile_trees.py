"""The worker door: a holon below that tells nonsense of its jobs, too much, or nothing: nothing is lost by that."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.domain.tree import Asked
from holon.errors import HolonError, NotFound
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.testing import running_node
from tests.integration.grpc_node import (
    CLIENT_TOKEN,
    GUARD,
    Node,
    authority,
    reason_of,
    result,
    update,
    updates,
    worker_files,
)
from tests.integration.holon_line import passing, until
from tests.integration.hostile_trees.trees import (
    ANY,
    STRANGER,
    TASK,
    answered,
    child,
    job_node,
    names,
    page,
    said,
    summary,
    tree,
    working,
)


def task_node(number: int, **more: Any) -> types_pb2.TreeNode:
    return job_node(**{"node_id": str(number), "parent_node_id": "1", "kind": TASK, "task_id": f"t{number}"} | more)


BAD: dict[str, Callable[[], worker_pb2.TreePage]] = {
    "no root": lambda: page(),
    "no holon": lambda: page(job_node(holon_id="")),
    "another holon": lambda: page(job_node(holon_id="another")),
    "a task as the root": lambda: page(task_node(1, parent_node_id="")),
    "two roots": lambda: page(job_node(), task_node(2, parent_node_id="")),
    "a circle": lambda: page(job_node(), task_node(2, parent_node_id="3"), task_node(3, parent_node_id="2")),
    "its own parent": lambda: page(job_node(parent_node_id="1")),
    "the same node twice": lambda: page(job_node(), task_node(2), task_node(2)),
    "a node of the parent's": lambda: page(job_node(), task_node(2, holon_id="holon-1")),
    "no kind": lambda: page(job_node(kind=0)),
    "no job": lambda: page(job_node(job_id="no id!")),
    "not a percentage": lambda: page(job_node(progress=math.nan)),
    "no digest": lambda: page(job_node(digest=types_pb2.HistoryDigest(sha256=b"short"))),
    "a summary of nobody": lambda: page(job_node(summary=types_pb2.JobSummary())),
    "too many": lambda: page(job_node(), *(task_node(n) for n in range(2, 1_002))),
    "too large": lambda: page(job_node(), *(task_node(n, name="x" * 20_000) for n in range(2, 100))),
    "a token that is none": lambda: page(job_node(), next_page_token="x y"),
    "a token without end": lambda: page(job_node(), next_page_token="x" * 4_000),
}


async def test_what_a_holon_tells_is_hung_below_its_task_and_marked_as_told_by_it(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    asking = asyncio.create_task(tree(node, job_id, digests_wanted=True, max_depth=4))
    request = await wire.expect("tree_request")
    assert (request.task_id, request.lease_id, request.job_id) == (offer.task_id, offer.lease_id, "")
    assert (request.max_depth, request.page_size, request.digests_wanted) == (2, 998, True)
    assert 0 < request.time_left.ToMilliseconds() <= 2_000
    long = "\N{SNOWMAN}" * 1_000
    nodes = page(job_node(name=long), task_node(2, worker_id="w" * 300, attempt=3), request_id=request.request_id)
    await wire.send(said(nodes))
    own, task, root, leaf = await asking
    assert (own.reported, task.reported, root.reported, leaf.reported) == (False, False, True, True)
    assert (task.parent_node_id, root.parent_node_id, leaf.parent_node_id) == (
        own.node_id, task.node_id, root.node_id,
    )  # fmt: skip
    assert (task.worker_id, leaf.worker_id, leaf.attempt) == ("child", "w" * 253, 3)
    assert len(root.name.encode()) <= 128


async def test_what_was_asked_on_a_stream_is_answered_on_the_one_that_takes_its_place(node: Node) -> None:
    first = await child(node)
    job_id, _ = await working(node, first)
    asking = asyncio.create_task(tree(node, job_id))
    request = await first.expect("tree_request")
    second = await child(node)
    await second.send(said(page(job_node(), request_id=request.request_id)))
    assert names(await asking) == ["job", "task", f"job {ANY}"]


async def test_a_tree_that_cannot_be_one_is_not_shown_and_the_session_goes_on(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    for what, bad in BAD.items():
        assert names(await answered(node, wire, job_id, bad())) == ["job", "task"], what
    # Nor is another job than the one that was told of before.
    told = updates(update(offer, progress=worker_pb2.TaskProgress(summary=summary())))
    await wire.send(told)
    await node.until(lambda: node.engine.below.any)
    assert names(await answered(node, wire, job_id, page(job_node(job_id="another")))) == ["job", "task", f"job {ANY}"]
    # What was good is shown, and the task can still be ended.
    assert names(await answered(node, wire, job_id, page(job_node()))) == ["job", "task", f"job {ANY}"]
    await wire.send(updates(result(offer)))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await node.ended(job_id)).status == "finished"


async def test_answers_to_nothing_are_passed_over_however_many_and_the_right_one_counts(node: Node) -> None:
    wire = await child(node)
    job_id, _ = await working(node, wire)
    for number in range(150):
        await wire.send(said(page(job_node(job_id=f"never-{number}"), request_id="nobody-asked")))
    await wire.beat()
    strays = [page(job_node(job_id="stray"), request_id=text) for text in ("x", "y" * 10_000)]
    shown = await answered(node, wire, job_id, *strays, page(job_node()), page(job_node(job_id="late")))
    assert names(shown) == ["job", "task", f"job {ANY}"]
    await wire.beat(2)


async def test_one_that_never_answers_is_shown_as_it_told_last_and_waited_for_two_seconds_together(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    await wire.send(
        updates(update(offer, progress=worker_pb2.TaskProgress(percent=30, summary=summary(current_state="here"))))
    )
    await node.until(lambda: node.engine.below.any)
    async with asyncio.timeout(GUARD):
        *_, told = await tree(node, job_id)
    assert (told.offline, told.reported, told.status, told.current_state) == (True, True, "running", "here")
    assert told.as_of.ToMilliseconds() > 0
    assert told.summary.job_id == ANY
    await node.engine.touches.flush()
    assert (await node.job(job_id)).progress == 30
    # One that does not say that it answers is not even asked.
    await wire.close()
    held = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
    silent = await child(node, answers=False, resume=worker_pb2.Resume(leases=[held]))
    assert names(await tree(node, job_id)) == ["job", "task", f"job {ANY}"]
    await silent.beat()


async def test_a_tree_without_end_comes_page_by_page_and_the_caller_may_leave(node: Node) -> None:
    wire = await child(node)
    job_id, _ = await working(node, wire)
    shown, token = 0, ""
    for number in range(5):
        request = job_pb2.GetJobTreeRequest(job_id=job_id, page_size=3, page_token=token)
        asking = asyncio.create_task(node.call("GetJobTree", request, job_pb2.GetJobTreeResponse.FromString))
        asked = await wire.expect("tree_request")
        assert asked.page_token == ("" if number == 0 else "on")
        nodes = [job_node()] if number == 0 else [task_node(number + 10)]
        await wire.send(said(page(*nodes, request_id=asked.request_id, next_page_token="on")))
        answer = await asking
        shown += len(answer.nodes)
        token = answer.next_page_token
        assert token
    assert shown == 2 + 5
    # It may also tell that it cannot: nothing more comes then.
    asking = asyncio.create_task(
        node.call(
            "GetJobTree",
            job_pb2.GetJobTreeRequest(job_id=job_id, page_token=token),
            job_pb2.GetJobTreeResponse.FromString,
        )
    )
    asked = await wire.expect("tree_request")
    refused = page(request_id=asked.request_id, error=types_pb2.Error(reason="JOB_NOT_FOUND"))
    await wire.send(said(refused))
    assert not (await asking).nodes


async def test_a_plain_worker_tells_no_trees(node: Node) -> None:
    worker = await node.worker("w1")
    job_id = await node.create()
    offer = await worker.offer()
    await worker.send(said(page(job_node())))
    assert (await worker.refused()).error.reason == "UNKNOWN_MESSAGE"
    await worker.send(updates(result(offer, summary=summary())))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert not node.engine.below.any
    assert names(await tree(node, job_id)) == ["job", "task"]


async def test_a_stranger_sees_no_tree_and_a_bad_question_is_refused(node: Node) -> None:
    job_id = await node.create()
    for asked, token in ((job_id, STRANGER), ("0-unknown", CLIENT_TOKEN)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tree(node, asked, token)
        assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    for bad in ({"page_size": 1_001}, {"page_size": -1}, {"max_depth": -1}, {"page_token": "x"}, {"page_token": "1:2"}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tree(node, job_id, **bad)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, bad


async def test_a_child_answers_of_its_parents_jobs_alone_and_bad_questions_by_an_error(
    node: Node, tmp_path: Path
) -> None:
    pair = worker_files("child")
    settings: dict[str, Any] = {
        "PARENT_URL": f"grpcs://localhost:{node.workers.port}",
        "PARENT_TLS_CERT_PATH": str(pair.certificate),
        "PARENT_TLS_KEY_PATH": str(pair.key),
        "PARENT_TLS_CA_PATH": str(authority("ours").files.certificate),
    }
    async with running_node(passing("t", "nobody-does-it"), **settings) as below_us:
        own = (await below_us.client.create_job("t", {})).job_id
        job_id = await node.create()

        async def linked() -> bool:
            return len(await tree(node, job_id)) > 2

        await until(linked, "the child works on it")
        _, task, root, *_ = await tree(node, job_id)
        link = node.engine.trees.link("child")
        assert link is not None
        good = await link.ask(task.task_id, "any", "", Asked(size=10), 5.0)
        assert good.nodes[0].job_id == root.job_id
        with pytest.raises(NotFound):
            await link.ask(task.task_id, "any", own, Asked(size=10), 5.0)
        with pytest.raises(NotFound):
            await link.ask("no-task", "any", "", Asked(size=10), 5.0)
        for bad in (Asked(size=2_000), Asked(size=-1), Asked(depth=-1, size=5), Asked(size=5, token="nonsense")):
            with pytest.raises(HolonError):
                await link.ask(task.task_id, "any", "", bad, 5.0)
        assert len(await tree(node, job_id)) == 4


async def test_a_task_that_ends_while_its_tree_is_read_is_shown_as_it_ended(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    worker = await node.worker("w1")
    job_id = await node.create()
    offer = await worker.offer()
    store = node.engine.store
    look = store.task

    async def late(task_id: str) -> Any:
        await worker.send(updates(result(offer)))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        monkeypatch.setattr(store, "task", look)
        return await look(task_id)

    monkeypatch.setattr(store, "task", late)
    _, task = await tree(node, job_id)
    assert (task.status, task.worker_id, task.HasField("finished_at")) == ("success", "w1", True)
