"""A link that is cancelled at an odd moment ends, and begins nothing more."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import worker_pb2
from holon.wire.address import parse_url
from holon.worker.hearing import Tasks
from holon.worker.leases import Lease
from holon.worker.link import Link, Replaced
from holon.worker.settings import Credentials
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    ScriptedNode,
    worker_for,
)


class Slow:
    """Who does the work, and takes the node's terms by a call that lets a cancel wait for its end."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.offers: list[str] = []

    async def welcomed(self, _: worker_pb2.Welcome) -> None:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            task.cancel()

    def alive(self) -> None: ...

    def offered(self, lease: Lease, _: worker_pb2.TaskOffer) -> None:
        self.offers.append(lease.task_id)


def link_to(node: ScriptedNode, certificates: Certificates) -> Link:
    own = certificates.worker
    credentials = Credentials("", certificates.ca, own.certificate, own.key)
    return Link([parse_url(node.url, 0)], credentials, worker_pb2.Hello(catalog=worker_pb2.Catalog()), 1, FAST)


async def test_a_link_that_is_cancelled_while_it_takes_the_nodes_terms_ends(
    certificates: Certificates, node: ScriptedNode
) -> None:
    link, tasks = link_to(node, certificates), Slow()
    running = asyncio.create_task(link.run(cast("Tasks", tasks)))
    stream = await node.session()
    await stream.welcome()
    await tasks.asked.wait()
    running.cancel()
    async with asyncio.timeout(GUARD):
        await asyncio.wait((running,))
    assert running.cancelled()
    assert not link.linked


async def test_a_link_that_is_cancelled_just_as_its_session_is_to_begin_keeps_no_connection(
    certificates: Certificates, node: ScriptedNode
) -> None:
    class Eager(Slow):
        """It has the link cancelled in the turn of the loop in which who carries the session is to begin."""

        async def welcomed(self, _: worker_pb2.Welcome) -> None:
            asyncio.get_running_loop().call_soon(running.cancel)

    link = link_to(node, certificates)
    running = asyncio.create_task(link.run(cast("Tasks", Eager())))
    stream = await node.session()
    await stream.welcome()
    async with asyncio.timeout(GUARD):
        await asyncio.wait((running,))
        assert running.cancelled()
        await stream.gone.wait()


async def test_a_link_that_is_cancelled_while_it_takes_the_nodes_terms_begins_nothing_that_was_offered_meanwhile(
    certificates: Certificates, node: ScriptedNode
) -> None:
    link, tasks = link_to(node, certificates), Slow()
    tasks.answer.set()
    running = asyncio.create_task(link.run(cast("Tasks", tasks)))
    old = await node.welcomed("old")
    await link.ready()
    tasks.answer.clear()
    tasks.asked.clear()
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    link.hearing.tree = lambda _: told.set_result(None)
    await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
    await (await node.session()).welcome("new")
    async with asyncio.timeout(GUARD):
        await tasks.asked.wait()
        await old.offer("t1", "double")
        # It is read behind the offer.
        await old.send(tree_request=worker_pb2.TreeRequest())
        await told
        running.cancel()
        await asyncio.wait((running,))
    assert running.cancelled()
    assert tasks.offers == []


async def test_a_link_that_drains_and_is_cancelled_while_a_hello_is_on_its_way_loses_no_exception(
    certificates: Certificates, node: ScriptedNode
) -> None:
    lost: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context["message"]))
    link = link_to(node, certificates)
    running = asyncio.create_task(link.run(cast("Tasks", Slow())))
    await node.session()
    link.drain("over")
    # The link hears of it, and ends who waits for the Welcome; that one's stream ends a while later.
    for _ in range(3):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(GUARD):
        await asyncio.wait((running, *(one for one in asyncio.all_tasks() if one.get_name() == "session-greeting")))
    del running
    gc.collect()
    assert lost == []


async def test_a_worker_that_was_sent_away_is_not_linked_once_that_stream_has_ended_and_there_is_no_other(
    certificates: Certificates, node: ScriptedNode
) -> None:
    link, tasks = link_to(node, certificates), Slow()
    tasks.answer.set()
    running = asyncio.create_task(link.run(cast("Tasks", tasks)))
    old = await node.welcomed("old")
    await link.ready()
    await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
    new = await node.session()
    old.end()
    new.end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    async with asyncio.timeout(GUARD):
        while link.linked:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait((running,))


async def test_a_worker_that_is_cancelled_and_replaced_at_the_same_time_loses_no_exception(
    certificates: Certificates, node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context["message"]))
    runs = threading.Event()

    async def run(*_: object) -> None:
        runs.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise Replaced("a newer process has its id")

    monkeypatch.setattr(Link, "run", run)
    worker = worker_for(certificates, node)

    @worker.skill
    def idle() -> None: ...

    serving = asyncio.create_task(worker.serve())
    assert await asyncio.to_thread(runs.wait, GUARD)
    serving.cancel()
    await asyncio.wait((serving,))
    assert serving.cancelled()
    del serving
    gc.collect()
    assert lost == []
