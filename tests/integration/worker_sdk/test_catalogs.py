"""What a link says that it offers, and says again where its node could not take it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.address import parse_url
from holon.worker.hearing import Tasks
from holon.worker.link import Link
from holon.worker.settings import Credentials
from tests.integration.scripted_node import FAST, Certificates, ScriptedNode, Stream


class Idle:
    """Who has no tasks to do."""

    async def welcomed(self, _: worker_pb2.Welcome) -> None: ...

    def alive(self) -> None: ...


def catalog(sequence: int, skill: str, credits: int = 1) -> worker_pb2.Catalog:  # noqa: A002  # the protocol's word
    return worker_pb2.Catalog(sequence=sequence, offerings=[worker_pb2.Offering(skill=skill, credits=credits)])


@pytest.fixture
async def link(certificates: Certificates, node: ScriptedNode) -> AsyncIterator[Link]:
    """A link that offers nothing yet."""
    own = certificates.worker
    credentials = Credentials("", certificates.ca, own.certificate, own.key)
    made = Link([parse_url(node.url, 0)], credentials, worker_pb2.Hello(catalog=worker_pb2.Catalog()), 1, FAST)
    running = asyncio.create_task(made.run(cast("Tasks", Idle())))
    yield made
    running.cancel()
    await asyncio.wait((running,))


async def refuse(stream: Stream, back: int = 0, *, again: bool) -> None:
    """Refuse the newest message but so many; `again`: only for now."""
    error = types_pb2.Error(reason="STORE_UNAVAILABLE")
    if again:
        error.retry_after.FromMilliseconds(1)
    # Hello is the first, and not among those that came since.
    frame = 1 + len(stream.came) - back
    await stream.send(session_error=worker_pb2.SessionError(frame=frame, error=error))


async def test_a_catalog_that_the_node_cannot_take_now_is_said_again_as_it_is_by_then(
    node: ScriptedNode, link: Link
) -> None:
    stream = await node.welcomed()
    await link.ready()
    link.set_catalog(catalog(2, "t", credits=5))
    await stream.message("catalog")
    link.set_credits(4, {"t": 3})
    while not (await stream.message("heartbeat")).heartbeat.offering_credits:
        pass
    await refuse(stream, back=stream.order[::-1].index("catalog"), again=True)
    assert (await stream.message("catalog")).catalog == catalog(2, "t", credits=3)
    await refuse(stream, back=stream.order[::-1].index("catalog"), again=True)
    assert (await stream.message("catalog")).catalog == catalog(2, "t", credits=3)


async def test_a_catalog_that_is_refused_for_good_or_was_replaced_is_not_said_again(
    node: ScriptedNode, link: Link
) -> None:
    stream = await node.welcomed(heartbeat_interval=Duration(nanos=50_000_000))
    await link.ready()
    for sequence, skill in ((2, "replaced"), (3, "wrong")):
        link.set_catalog(catalog(sequence, skill))
        assert (await stream.message("catalog")).catalog.sequence == sequence
    newest = stream.order[::-1].index("catalog")
    older = stream.order[::-1].index("catalog", newest + 1)
    await refuse(stream, back=older, again=True)
    await refuse(stream, back=newest, again=False)
    # Who says either again does so long before these heartbeats have come.
    for _ in range(3):
        await stream.message("heartbeat")
    assert stream.order.count("catalog") == 2


async def test_a_stream_that_is_left_says_no_catalog_again_and_the_next_one_has_it_in_hello(
    node: ScriptedNode, link: Link
) -> None:
    old = await node.welcomed("old")
    await link.ready()
    link.set_catalog(catalog(2, "t"))
    await old.message("catalog")
    await refuse(old, back=old.order[::-1].index("catalog"), again=True)
    assert (await old.message("catalog")).catalog.sequence == 2
    await old.send(go_away=worker_pb2.GoAway(reason="ROTATE"))
    new = await node.welcomed("new")
    assert new.hello.catalog == catalog(2, "t")
    await old.wait(old.half_closed)
