"""What a child holon offers its parent: what its workers can do now."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.clock import SystemClock
from holon.domain.fleet import Skill
from holon.errors import StoreUnavailable
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import providers
from holon.uplink.provided import Provided, text_of
from holon.uplink.providers import Providers
from tests.integration.a_child import PARENT, STORE, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.offers_heard import Offered, blueprints

pytestmark = pytest.mark.usefixtures("withdrawn_soon")


async def test_what_nobody_can_do_has_no_credits_at_once_is_withdrawn_after_a_while_and_comes_back(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        async with Leaf(child.engine, "crawler", Skill("crawl")), Leaf(child.engine, "both", Skill("count")):
            parent = Offered(await child.linked())
            await parent.until(crawling=7, counting=7, asking=7)
            # It says what has changed since its Hello, if anything has, before it beats.
            while not (await parent.hear()).HasField("heartbeat"):
                pass
            catalogs = parent.catalogs
        async with Leaf(child.engine, "counter", Skill("count")):
            await parent.until(crawling=0, counting=7, asking=7)
            assert parent.catalogs == catalogs
            await parent.until(counting=7, asking=7)
            assert parent.catalogs == catalogs + 1
            async with Leaf(child.engine, "crawler", Skill("crawl")):
                await parent.until(crawling=7, counting=7, asking=7)
                # Whoever links anew says the same in its Hello.
                child.uplink._link.introduce(worker_pb2.HolonIdentity(holon_id="the-child", uplink_epoch=1))  # type: ignore[union-attr]
                assert Offered(await child.linked()).credits == {"crawling": 7, "counting": 7, "asking": 7}


async def test_what_changes_between_the_hello_and_its_welcome_is_said_after_that(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        stream = await child.parent.session()
        parent = Offered(stream)
        async with Leaf(child.engine, "counter", Skill("count")):
            await child.until(lambda: bool(child.uplink._credits._due()[1].get("counting")))  # type: ignore[union-attr]
            await stream.welcome(holon_id=PARENT, capabilities=[types_pb2.CAPABILITY_HOLON])
            # What nobody can do is withdrawn by then, or not yet.
            while {"crawling": 0} | parent.credits != {"crawling": 0, "counting": 7, "asking": 7}:
                await parent.hear()
            while parent.total != 7:
                await parent.hear()


async def test_who_lacks_somebody_for_an_offer_says_that_it_has_no_credits_for_it_before_it_gives_it_back(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        async with Leaf(child.engine, "counter", Skill("count")):
            stream = await child.linked()
            await child.until(lambda: bool(child.uplink._credits._due()[1].get("counting")))  # type: ignore[union-attr]
            # By itself it looks later.
            monkeypatch.setattr("holon.uplink.credits.LOOK_S", GUARD)
            await asyncio.sleep(0.1)
        stream.came.clear()
        await offered(stream, "t1", "counting", {})
        assert (await answer(stream)).rejected.reason == "UNSERVABLE"
        assert stream.came[0].HasField("heartbeat")
        granted: dict[str, int] = {}
        while granted.get("counting") != 0:
            beat = (await stream.message("heartbeat")).heartbeat
            granted |= {one.skill: one.credits for one in beat.offering_credits}


async def test_workers_of_other_nodes_of_the_holon_count(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        parent = Offered(await child.linked())
        await parent.until(asking=1)
        there = Providers(child.store, lambda: Provided(frozenset({"count"})), frozenset, "n2")
        running = asyncio.create_task(there.run())
        await parent.until(counting=1, asking=1)
        running.cancel()
        await asyncio.wait((running,))
        # What is no word of a node says nothing.
        await child.store.put_document("providers", "n3", b"{", version=0)
        (known,) = [one for one in await child.store.documents("providers") if one.key == "n2"]
        await child.store.put_document("providers", "n2", None, version=known.version)
        await parent.until(asking=1)


async def test_what_other_nodes_say_is_read_again_soon_where_the_store_was_away_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store:
        one = Providers(store, Provided, frozenset, "n1")
        # The first reading is over once this node has told what it has.
        running = asyncio.create_task(one.run())
        async with asyncio.timeout(GUARD):
            while not await store.documents("providers"):  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        documents, tries = store.documents, 0
        read_again = asyncio.Event()

        async def away_at_first(kind: str) -> Any:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise StoreUnavailable("away")
            try:
                return await documents(kind)
            finally:
                asyncio.get_running_loop().call_soon(read_again.set)

        monkeypatch.setattr(store, "documents", away_at_first)
        monkeypatch.setattr(providers, "REPEAT_S", 3_600)
        await store.put_document("providers", "n2", text_of(Provided(frozenset({"ocr"})))[0], version=0)
        one.hints.changed(frozenset({"providers"}))
        await asyncio.wait_for(read_again.wait(), GUARD)
        assert one.elsewhere("ocr")
        running.cancel()
