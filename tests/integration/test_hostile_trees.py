"""The worker door: a holon below that tells nonsense of its jobs, too much, or nothing: nothing is lost by that."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.domain.client import Client
from holon.domain.events import HistoryEvent
from holon.domain.tally import Tally
from holon.domain.task import task_id
from holon.domain.tree import Asked, Summary, Trouble
from holon.engine import below
from holon.engine.kept import KIND
from holon.errors import HolonError, NotFound
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.security.clients import Entry, sole
from holon.security.tokens import digest_of
from holon.storage.ledger import shared
from holon.storage.sealing import Seal
from holon.testing import running_node
from holon.wire.trees import read_summary, summary_message
from tests.integration.admission import admission
from tests.integration.grpc_node import (
    CLIENT_TOKEN,
    GUARD,
    Node,
    Wire,
    a_node,
    authority,
    hello,
    reason_of,
    result,
    update,
    updates,
    worker_files,
)
from tests.integration.holon_line import passing, until

BELOW = "below"
JOB, TASK = types_pb2.TREE_NODE_KIND_JOB, types_pb2.TREE_NODE_KIND_TASK
STRANGER = "the-token-of-a-stranger"
ANY = "job-below"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    strange = Entry(Client("stranger"), frozenset({digest_of(STRANGER)}))
    entries = (*sole(CLIENT_TOKEN), strange)
    async with a_node(admission=admission(tmp_path, '["child*"]\nkind = "holon"'), entries=entries) as node:
        yield node


async def child(node: Node, *, answers: bool = True, **more: Any) -> Wire:
    wire = await node.stream("child")
    identity = worker_pb2.HolonIdentity(holon_id=BELOW, uplink_epoch=1)
    capabilities = [types_pb2.CAPABILITY_CANCEL, *([types_pb2.CAPABILITY_HOLON] if answers else [])]
    more |= {"instance_id": "i1", "holon_identity": identity, "capabilities": capabilities, "credits": 10}
    await wire.send(hello(**more))
    wire.welcome = await wire.expect("welcome")
    return wire


async def tree(node: Node, job_id: str, token: str = CLIENT_TOKEN, **more: Any) -> list[types_pb2.TreeNode]:
    request = job_pb2.GetJobTreeRequest(job_id=job_id, **more)
    metadata = (("x-client-token", token),)
    answer = await node.call("GetJobTree", request, job_pb2.GetJobTreeResponse.FromString, metadata)
    return list(answer.nodes)


def job_node(**more: Any) -> types_pb2.TreeNode:
    fields: dict[str, Any] = {"node_id": "1", "kind": JOB, "holon_id": BELOW, "job_id": ANY} | more
    return types_pb2.TreeNode(**fields)


def task_node(number: int, **more: Any) -> types_pb2.TreeNode:
    return job_node(**{"node_id": str(number), "parent_node_id": "1", "kind": TASK, "task_id": f"t{number}"} | more)


def page(*nodes: types_pb2.TreeNode, **more: Any) -> worker_pb2.TreePage:
    return worker_pb2.TreePage(nodes=nodes, **more)


def said(told: worker_pb2.TreePage) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(tree_page=told)


def summary(**more: Any) -> types_pb2.JobSummary:
    told = types_pb2.JobSummary(holon_id=BELOW, job_id=ANY, status="running")
    told.as_of.GetCurrentTime()
    told.MergeFrom(types_pb2.JobSummary(**more))
    return told


async def working(node: Node, wire: Wire) -> tuple[str, worker_pb2.TaskOffer]:
    """A job whose task the child works on."""
    job_id = await node.create()
    offer = await wire.offer()
    await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
    return job_id, offer


async def answered(
    node: Node, wire: Wire, job_id: str, *answers: worker_pb2.TreePage, **more: Any
) -> list[types_pb2.TreeNode]:
    """The tree of a job, for which the child gives these answers."""
    asking = asyncio.create_task(tree(node, job_id, **more))
    request = await wire.expect("tree_request")
    for answer in answers:
        answer.request_id = answer.request_id or request.request_id
        await wire.send(said(answer))
    return await asking


def names(nodes: list[types_pb2.TreeNode]) -> list[str]:
    return [f"{'job' if node.kind == JOB else 'task'} {node.job_id if node.reported else ''}".strip() for node in nodes]


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
    "no percentage": lambda: page(job_node(progress=math.nan)),
    "no digest": lambda: page(job_node(digest=types_pb2.HistoryDigest(sha256=b"short"))),
    "a summary of nobody": lambda: page(job_node(summary=types_pb2.JobSummary())),
    "too many": lambda: page(job_node(), *(task_node(n) for n in range(2, 1_002))),
    "too large": lambda: page(job_node(), *(task_node(n, name="x" * 20_000) for n in range(2, 100))),
    "a token that is none": lambda: page(job_node(), next_page_token="x y"),
    "a token without end": lambda: page(job_node(), next_page_token="x" * 2_000),
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
    nodes = page(job_node(name=long), task_node(2, worker_id="w", attempt=3), request_id=request.request_id)
    await wire.send(said(nodes))
    own, task, root, leaf = await asking
    assert (own.reported, task.reported, root.reported, leaf.reported) == (False, False, True, True)
    assert (task.parent_node_id, root.parent_node_id, leaf.parent_node_id) == (
        own.node_id, task.node_id, root.node_id,
    )  # fmt: skip
    assert (task.worker_id, leaf.worker_id, leaf.attempt) == ("child", "w", 3)
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
    began = asyncio.get_running_loop().time()
    *_, told = await tree(node, job_id)
    assert asyncio.get_running_loop().time() - began < 20
    assert (told.offline, told.reported, told.status, told.current_state) == (True, True, "running", "here")
    assert told.as_of.ToMilliseconds() > 0
    assert told.summary.job_id == ANY
    assert (await node.job(job_id)).progress in (0, 30)
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


async def test_what_is_told_with_a_result_is_kept_once_and_never_told_otherwise_later(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    ends = result(offer, summary=summary(status="finished", task_counts=[types_pb2.StatusCount(status="x", count=1)]))
    await wire.send(updates(ends))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    # The same result again, with another story: it is acknowledged, and the first story stays.
    again = result(offer, summary=summary(status="failed"))
    again.resent = True
    await wire.send(updates(again))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    await wire.close()
    await node.until(lambda: not list(node.engine.dispatcher.sessions))
    *_, told = await tree(node, job_id)
    assert (told.status, [one.count for one in told.summary.task_counts]) == ("finished", [1])


async def test_what_cannot_be_kept_is_not_and_its_result_counts(node: Node) -> None:
    wire = await child(node)
    large = summary(states=[types_pb2.StateVisit(state="x" * 100)] * 1_000)
    for told in (large, summary(holon_id="another"), summary(job_id="no id!"), types_pb2.JobSummary()):
        job_id, offer = await working(node, wire)
        await wire.send(updates(update(offer, progress=worker_pb2.TaskProgress(summary=told))))
        await wire.send(updates(result(offer, summary=told)))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"
    # Nor of a lease that it does not hold, nor with a result that was not used.
    job_id, offer = await working(node, wire)
    stolen = worker_pb2.TaskOffer(task_id=offer.task_id, lease_id="another")
    await wire.send(updates(update(stolen, progress=worker_pb2.TaskProgress(summary=summary()))))
    assert (await wire.refused()).error.reason == "TASK_NOT_HELD"
    await wire.send(updates(result(stolen, summary=summary())))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
    assert not node.engine.below.any


async def test_what_is_told_of_a_task_that_is_over_counts_from_who_had_it_last_only(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    await node.cancel(job_id)
    await wire.expect("stop_tasks")
    earlier = worker_pb2.TaskOffer(task_id=offer.task_id, lease_id="earlier")
    for lease, kept in ((earlier, False), (offer, True)):
        await wire.send(updates(result(lease, "cancelled", summary=summary(status="cancelled"))))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
        assert node.engine.below.any is kept
    await wire.send(updates(result(earlier, "cancelled", summary=summary(status="finished"))))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
    await wire.close()
    await node.until(lambda: not list(node.engine.dispatcher.sessions))
    *_, told = await tree(node, job_id)
    assert told.status == "cancelled"


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
    # A place behind the end is one where nothing is.
    assert await tree(node, job_id, page_token="7:1:x") == []


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


def came(told: Summary) -> bytes:
    """What is told of a job, as it comes."""
    return summary_message(told).SerializeToString()


async def test_of_so_many_jobs_below_is_kept_what_they_told_and_the_oldest_make_room(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    monkeypatch.setattr(below, "MOST", 3)
    monkeypatch.setattr(below, "PAUSE_S", 0.0)
    store = node.engine.store

    async def keys() -> list[str]:
        return [one.key for one in await store.documents(KIND)]

    async def until_only(*wanted: str) -> None:
        async with asyncio.timeout(GUARD):
            while await keys() != list(wanted):  # noqa: ASYNC110  it looks from outside, and nothing tells it
                await asyncio.sleep(0)

    def told(number: int) -> bytes:
        return came(Summary(BELOW, ANY, "finished", "", number, 0))

    kept = below.Below(store, store.now, 60_000, read_summary)
    running = asyncio.create_task(kept.run())
    for number in range(5):
        await kept.ended([(f"t{number}", "lease", told(number))])
        assert await kept.find(f"t{number}") is not None
    await until_only("t2", "t3", "t4")
    # One that is told of again, by another attempt, is not the oldest any more.
    await kept.ended([("t2", "another", told(9))])
    await kept.ended([("t5", "lease", told(10))])
    await until_only("t2", "t4", "t5")
    running.cancel()
    # Another process of the holon goes on with what is there; one that others fill up makes room at once.
    after = below.Below(store, store.now, 60_000, read_summary)
    running = asyncio.create_task(after.run())
    await node.until(lambda: after.any)
    await after.ended([("t9", "lease", told(11))])
    await until_only("t2", "t5", "t9")
    running.cancel()
    monkeypatch.setattr(shared, "MAX_DOCUMENTS", 3)
    await after.ended([("t99", "lease", told(12))])
    await until_only("t5", "t9", "t99")


async def test_what_holons_told_another_node_of_this_one_is_told_above_too(node: Node) -> None:
    job_id, engine = await node.create(), node.engine
    asked = Tally(job_id)
    asked.take_all(
        [(1, HistoryEvent("task_dispatched", 1, "s", task_id=task_id(job_id, 0, 0), details={"skill": "t"}))]
    )
    record = await engine.store.job(job_id)
    assert record is not None
    assert (await engine.trees.summary(record, asked)).jobs == ()
    heard = asyncio.Event()
    engine.follow_documents(lambda kinds: heard.set() if KIND in kinds else None)
    other = below.Below(engine.store, engine.store.now, 60_000, read_summary)
    await other.ended([(task_id(job_id, 0, 0), "lease", came(Summary(BELOW, ANY, "finished", "", 1, 0)))])
    async with asyncio.timeout(GUARD):
        await heard.wait()
    assert (await engine.trees.summary(record, asked)).jobs == (("finished", 1),)


async def test_holons_that_make_up_statuses_do_not_make_what_is_told_above_of_them_larger(node: Node) -> None:
    job_id = await node.create()
    engine = node.engine
    asked = Tally(job_id)
    asked.take_all([(1, HistoryEvent("task_dispatched", 1, "s", details={"branches": 5, "step": 0}))])
    for index in range(5):
        made_up = tuple((f"{index} {number:03} {'x' * 100}", 1) for number in range(99))
        told = Summary(BELOW, ANY, "finished", "", 1, 0, tasks=(*made_up, ("success", 7)), jobs=made_up)
        await engine.below.ended([(task_id(job_id, 0, index), "lease", came(told))])
    record = await engine.store.job(job_id)
    assert record is not None
    told = await engine.trees.summary(record, asked)
    assert (len(told.tasks), len(told.jobs), told.truncated) == (100, 100, True)
    assert ("success", 35) in told.tasks


async def test_who_tells_of_a_task_all_the_time_is_not_written_all_the_time(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    store, writes = node.engine.store, 0
    kept = below.Below(store, store.now, 60_000, read_summary)
    write = store.put_document

    async def told_meanwhile(*args: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes < 100:
            kept.later("t", "lease", came(Summary(BELOW, ANY, "running", "", writes, 0)))
        return await write(*args, **more)

    monkeypatch.setattr(below, "PAUSE_S", 3_600)
    monkeypatch.setattr(store, "put_document", told_meanwhile)
    kept.later("t", "lease", came(Summary(BELOW, ANY, "running", "", 0, 0)))
    running = asyncio.create_task(kept.run())
    async with asyncio.timeout(GUARD):
        while await store.document(KIND, "t") is None:  # noqa: ASYNC110  it looks from outside
            await asyncio.sleep(0)
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert writes == 1
    # What is written next is known already.
    found = await kept.find("t")
    assert found is not None
    assert found.summary.as_of == 1
    running.cancel()


async def test_what_holons_told_is_sealed_where_it_is_stored_and_what_cannot_be_read_is_as_if_untold(
    node: Node,
) -> None:
    store = node.engine.store
    seal = Seal([b"k" * 32])
    told = Summary(BELOW, ANY, "failed", "", 1, 0, errors=(Trouble("C", "a secret"),))
    kept = below.Below(store, store.now, 60_000, read_summary, seal)
    await kept.ended([("t1", "lease", came(told))])
    (document,) = await store.documents(KIND)
    assert b"secret" not in document.value
    found = await below.Below(store, store.now, 60_000, read_summary, Seal([b"k" * 32])).find("t1")
    assert found is not None
    assert found.summary == told
    # Another key, or another release.
    assert await below.Below(store, store.now, 60_000, read_summary, Seal([b"x" * 32])).find("t1") is None
    await store.put_document(KIND, "t2", b'{"from": "another release"}', version=0)
    assert await kept.find("t2") is None
    await kept.ended([("t2", "lease", came(told))])
    assert (await kept.find("t2")) == found


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
