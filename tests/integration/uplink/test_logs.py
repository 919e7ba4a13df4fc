"""What tasks of a child write in their logs, as it passes that on to its parent."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from holon.domain.fleet import Skill
from holon.domain.log_lines import LogLine
from holon.domain.tree import Disclose
from holon.ports import Offer
from holon.rxon.v1 import worker_pb2
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, Stream
from tests.integration.uplink.blueprints import DONE, blueprints

pytestmark = pytest.mark.usefixtures("soon")


def writes(leaf: Leaf, offer: Offer, text: str) -> None:
    lines = (LogLine(1_000, "error", text, b'{"n": 1}'),)
    assert leaf._engine.workers.logged(leaf.member, offer.task_id, offer.lease_id, lines)


async def logs(stream: Stream) -> worker_pb2.TaskUpdate:
    """The next lines that the parent is told."""
    async with asyncio.timeout(GUARD):
        while not (update := await stream.update()).HasField("logs"):
            pass
    return update


async def test_lines_go_up_under_the_parents_lease_with_the_holon_and_the_task_they_are_from(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "work", {})
        offer = await leaf.given()
        # It is followed from here on.
        assert (await answer(stream)).HasField("accepted")
        writes(leaf, offer, "deep")
        told = await logs(stream)
        assert (told.task_id, told.lease_id) == ("t1", "t1-lease")
        [line] = told.logs.lines
        assert (line.text, line.time.ToMilliseconds()) == ("deep", 1_000)
        fields = orjson.loads(line.fields.data)
        assert (fields["n"], fields["job_id"], fields["task_id"]) == (1, offer.job_id, offer.task_id)
        assert len(fields["holon_ids"]) == 1
        await leaf.ends(offer, DONE)
        assert (await answer(stream)).HasField("result")


async def test_who_discloses_nothing_passes_no_lines_on(certificates: Certificates) -> None:
    async with (
        a_child(certificates, blueprints(), disclose=Disclose.NONE) as child,
        Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "work", {})
        offer = await leaf.given()
        writes(leaf, offer, "secrets")
        await leaf.ends(offer, DONE)
        # Of one lease all is told in order.
        assert (await answer(stream)).HasField("result")
