"""The parent and who is above it: what a child takes from it, and what it tells of those below."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from holon.clock import SystemClock
from holon.domain.holarchy import HolonIdentity
from holon.errors import FailedPrecondition
from holon.storage.memory import MemoryStorage
from holon.storage.promises import Promise, Promises
from holon.uplink import books, parent, tenure, uplink
from holon.uplink.provided import Provided, text_of
from holon.uplink.tenure import Tenure
from tests.integration.a_child import PARENT, STORE, a_child, welcomed
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.echoing import blueprints, finishes
from tests.log_watch import LogWatch


async def test_a_parent_that_is_forgotten_while_it_is_served_is_known_again_by_its_next_welcome(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        await child.linked()
        await child.until(lambda: child.uplink.linked)
        assert await child.holarchy.accept("") == PARENT
        await child.holarchy.recall()
        assert child.holarchy.above == ()
        await child.linked()
        await child.until(lambda: child.holarchy.above == (PARENT,))


async def is_free(store: MemoryStorage) -> bool:
    """Whether any node may link."""
    lease = await store.document("uplink", "lease")
    return lease is not None and orjson.loads(lease.value)["until"] <= store.now()


async def test_a_node_that_does_not_reach_the_parent_leaves_the_link_to_another_node(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "_RENEW_S", 0.01)
    monkeypatch.setattr(tenure, "UNREACHED_S", 0.05)
    async with MemoryStorage(STORE, SystemClock()) as store:
        await store.put_document("providers", "n2", text_of(Provided())[0], version=0)
        # The parent answers nothing.
        async with a_child(certificates, blueprints(), store=store):
            async with asyncio.timeout(GUARD):
                while not await is_free(store):  # noqa: ASYNC110  it looks from outside, and nothing tells it
                    await asyncio.sleep(0.01)
            other = Tenure(store, store.now, "n2", "another")
            await other.take()
            assert other.epoch == 2


async def test_a_link_that_another_node_takes_over_as_it_is_begun_ends_for_that_reason_alone(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tenure, "_RENEW_S", 0.01)
    monkeypatch.setattr(uplink, "_PAUSE_S", 0.01)
    async with MemoryStorage(STORE, SystemClock()) as store:
        read, promises, reply = store.documents, Promises(), Promise[None]()
        beginning: asyncio.Future[asyncio.Task[Any]] = asyncio.Future()

        async def late(kind: str) -> Any:
            task = asyncio.current_task()
            if kind == books.KIND and task is not None and task.get_name() == "uplink-link" and not beginning.done():
                beginning.set_result(task)
                # As of any store in a place of its own: a cancel comes once this is there.
                await promises.kept(reply)
            return await read(kind)

        monkeypatch.setattr(store, "documents", late)
        async with a_child(certificates, blueprints(), store=store) as child:
            begins = await asyncio.wait_for(beginning, GUARD)
            lease = await store.document("uplink", "lease")
            assert lease is not None
            taken = orjson.dumps({"epoch": 2, "node": "n2", "until": store.now()})
            assert await store.put_document("uplink", "lease", taken, version=lease.version)
            try:
                await child.until(lambda: begins.cancelling() > 0)
            finally:
                reply.set_result(None)
            stream = await child.linked()
            await finishes(child, stream, "t1")
    assert caplog.messages.count("another node of this holon has the parent link") == 1
    assert "the parent link failed unexpectedly, and is opened again" not in caplog.messages


@pytest.mark.parametrize(
    "terms",
    [
        {"holon_id": "no id!"},
        {"holon_id": "x" * 129},
        {"holon_ids_above": ["root", ""]},
        {"holon_ids_above": [f"h{n}" for n in range(70)]},
        {"holon_ids_above": ["the-child"]},
        {"max_holarchy_depth": -1},
    ],
)
async def test_a_parent_that_says_nonsense_of_the_chain_is_not_served(
    certificates: Certificates, terms: dict[str, Any]
) -> None:
    async with a_child(certificates, blueprints()) as child:
        refused = await child.linked(**terms)
        again = await child.linked()
        await refused.wait(refused.gone)
        await finishes(child, again, "t1")


async def test_children_that_come_and_go_are_told_upwards_at_once_but_not_each_time(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "INTRODUCE_EVERY_S", 0.5)
    async with a_child(certificates, blueprints()) as child:
        await child.linked()
        await child.until(lambda: child.uplink.linked)
        await child.holarchy.admit("w", HolonIdentity("first", 1, "i"))
        assert list((await child.linked()).hello.holon_identity.holon_ids_below) == ["first"]
        for n in range(20):
            await child.holarchy.admit("w", HolonIdentity("first", 1, "i", (f"below-{n}",)))
            await asyncio.sleep(0)
        assert child.parent.waiting == 0
        stream = await child.linked()
        assert list(stream.hello.holon_identity.holon_ids_below) == ["first", "below-19"]
        assert child.parent.waiting == 0


async def test_a_false_claim_of_a_child_cuts_no_parent_off_before_nor_after_a_restart(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        await child.holarchy.admit("hostile", HolonIdentity("hostile", 1, "i", ("root",)))
        await child.linked(holon_ids_above=["root"])
        await child.until(lambda: child.holarchy.above == ("root", PARENT))
        async with a_child(certificates, blueprints(), store=child.store, parent=child.parent) as again:
            # Its parent has not answered yet.
            assert again.holarchy.above == ("root", PARENT)
            await welcomed(child.parent, holon_ids_above=["root"])
            await again.until(lambda: again.uplink.linked)


async def test_the_log_names_the_address_at_which_another_holon_than_the_parent_answers(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        (await child.linked()).end()
        with LogWatch(f"{child.parent.url}: HOLON_CHANGED: the parent was holon {PARENT} before") as watch:
            await welcomed(child.parent, holon_id="another")
            await asyncio.wait_for(watch.seen.wait(), GUARD)


async def test_the_lower_of_two_limits_of_depth_wins(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        await child.linked(holon_ids_above=["root"], max_holarchy_depth=1)
        await child.until(lambda: child.uplink.linked)
        with pytest.raises(FailedPrecondition) as refused:
            await child.holarchy.admit("w", HolonIdentity("below", 1, "i"))
        assert refused.value.code == "HOLARCHY_DEPTH"
