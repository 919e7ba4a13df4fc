"""What a child holon offers its parent: what its workers can do now, as much of it as they can begin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.rxon.v1 import worker_pb2
from holon.uplink import offerings, providers
from holon.uplink.providers import Providers
from tests.integration.a_child import Leaf, a_child
from tests.integration.scripted_node import GUARD, Certificates, Stream, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offerings, "WITHDRAWN_AFTER_S", 0.3)
    monkeypatch.setattr("holon.uplink.credits.LOOK_S", 0.02)
    monkeypatch.setattr(providers, "LOOK_S", 0.02)


def blueprints() -> list[Blueprint]:
    """Three, of which two need somebody by name."""
    crawling = Blueprint("crawling")

    @crawling.handler(is_start=True)
    async def crawl(actions: ActionFactory) -> None:
        actions.dispatch_task("crawl", {}, transitions={"success": "count"})

    @crawling.handler
    async def count(actions: ActionFactory) -> None:
        actions.dispatch_task(params={}, task_type="count", transitions={"success": "end"})

    @crawling.handler("end", is_end=True)
    async def crawled() -> None: ...

    counting = Blueprint("counting")

    @counting.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("count", {}, transitions={"success": "end"})

    @counting.handler("end", is_end=True)
    async def counted() -> None: ...

    asking = Blueprint("asking")

    @asking.handler(is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["skill"], {}, transitions={"success": "end"})

    @asking.handler("end", is_end=True)
    async def asked() -> None: ...

    return [crawling, counting, asking]


class Offered:
    """What the parent knows of a child's offerings, by what it was told."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.credits = {one.skill: one.credits for one in stream.hello.catalog.offerings}
        self.catalogs = 0

    async def until(self, **wanted: int) -> None:
        """Hear what the child says until this is offered, and nothing else."""
        async with asyncio.timeout(GUARD):
            while self.credits != wanted:
                self._hear(await self._stream._others.get())

    def _hear(self, said: worker_pb2.SessionRequest) -> None:
        if said.HasField("catalog"):
            self.catalogs += 1
            self.credits = {one.skill: one.credits for one in said.catalog.offerings}
        for one in said.heartbeat.offering_credits:
            assert one.skill in self.credits
            self.credits[one.skill] = one.credits


async def test_what_nobody_can_do_has_no_credits_at_once_is_withdrawn_after_a_while_and_comes_back(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        async with Leaf(child.engine, "crawler", Skill("crawl")), Leaf(child.engine, "both", Skill("count")):
            parent = Offered(await child.linked())
            await parent.until(crawling=7, counting=7, asking=7)
            assert parent.catalogs == 0
        async with Leaf(child.engine, "counter", Skill("count")):
            await parent.until(crawling=0, counting=7, asking=7)
            assert parent.catalogs == 0
            await parent.until(counting=7, asking=7)
            assert parent.catalogs == 1
            async with Leaf(child.engine, "crawler", Skill("crawl")):
                await parent.until(crawling=7, counting=7, asking=7)
                # Whoever links anew says the same in its Hello.
                child.uplink._link.introduce(worker_pb2.HolonIdentity(holon_id="the-child", uplink_epoch=1))  # type: ignore[union-attr]
                assert Offered(await child.linked()).credits == {"crawling": 7, "counting": 7, "asking": 7}


async def test_workers_of_other_nodes_of_the_holon_count(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        parent = Offered(await child.linked())
        await parent.until(asking=7)
        there = Providers(child.store, lambda: [leaf.member.session], "n2")
        async with Leaf(child.engine, "elsewhere", Skill("count")) as leaf:
            child.engine.dispatcher.remove(leaf.member.session)
            running = asyncio.create_task(there.run())
            await parent.until(counting=7, asking=7)
            running.cancel()
            await asyncio.wait((running,))
        # What is no word of a node says nothing.
        await child.store.put_document("providers", "n3", b"{", version=0)
        (known,) = [one for one in await child.store.documents("providers") if one.key == "n2"]
        await child.store.put_document("providers", "n2", None, version=known.version)
        await parent.until(asking=7)
