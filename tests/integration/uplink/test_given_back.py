"""What a child gives back, as nobody below it can do it, and what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from holon.clock import SystemClock
from holon.domain.fleet import Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.matching import Need, Offering
from holon.ports import StoreSettings
from holon.storage import MemoryStorage
from holon.uplink import escalation
from holon.uplink.provided import Provided, text_of
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, Stream, is_at_once, keep
from tests.integration.uplink.blueprints import DONE, blueprints, in_parts

pytestmark = pytest.mark.usefixtures("soon")


async def another_is_given_back(stream: Stream, task_id: str) -> None:
    """A task that nobody can do comes now, and is given back: by then those before it would have been."""
    await offered(stream, task_id, "named", {"of": "nobodys"})
    assert (await answer(stream)).HasField("accepted")
    update = await answer(stream)
    assert (update.task_id, update.rejected.reason) == (task_id, "UNSERVABLE")


async def test_a_task_that_waits_for_busy_workers_only_stays_and_one_without_any_is_given_back(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), escalate_after=0.2, cleanup=0.1) as child:
        stream = await child.linked()
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=1) as leaf:
            await offered(stream, "t1", "work", {})
            first = await leaf.given()
            await offered(stream, "t2", "work", {})
            assert {(await answer(stream)).WhichOneof("update") for _ in range(2)} == {"accepted"}
            await another_is_given_back(stream, "later")
            await leaf.ends(first, DONE)
            assert (await leaf.given()).attempt == 1
            assert (await answer(stream)).HasField("result")
        # Nobody is left: what names the skill is not begun, and what finds that out only then is given back; but not
        # what a worker had once.
        await offered(stream, "t3", "named", {"of": "leaf"})
        assert (await answer(stream)).HasField("accepted")
        given_back = await answer(stream)
        assert (given_back.task_id, given_back.rejected.reason) == ("t3", "UNSERVABLE")
        assert "no worker connected to this node offers skill 'leaf'" in given_back.rejected.message
        # Who looks at the job is not told that the parent wanted that.
        errors = {one.job.id: one.job.error.message for one in await child.jobs() if one.job.error is not None}
        assert set(errors.values()) == {
            "cancelled by the uplink: its task went back to the parent holon, because no worker here can do it"
        }
        await offered(stream, "t4", "work", {})
        given_back = await answer(stream)
        assert (given_back.task_id, given_back.rejected.reason) == ("t4", "UNSERVABLE")
        # It may come again as soon as there are credits for it.
        assert is_at_once(given_back)


async def test_what_a_worker_has_had_is_not_given_back_after_a_restart_either(certificates: Certificates) -> None:
    fast = StoreSettings("n1", lease=300, offer=300)
    async with MemoryStorage(fast, SystemClock()) as store, ScriptedNode(certificates) as parent:
        more: dict[str, Any] = {"store": store, "parent": parent, "escalate_after": 0.1, "cleanup": 0.1}
        async with a_child(certificates, blueprints(), **more) as child:
            stream = await child.linked()
            async with Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
                await offered(stream, "t1", "work", {})
                lost = await leaf.given()
                await child.engine.touches.flush()
                assert (await answer(stream)).HasField("accepted")
            # Its lease ends, and it waits again.
            async with asyncio.timeout(GUARD):
                while (task := await store.task(lost.task_id)) is None or task.state != "queued":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        async with a_child(certificates, blueprints(), **more) as child:
            stream = await child.linked(leases=keep("t1"))
            # Another job comes to be given back meanwhile.
            await offered(stream, "t2", "named", {"of": "nobodys"})
            while (update := await answer(stream)).WhichOneof("update") != "rejected":
                pass
            assert (update.task_id, update.rejected.reason) == ("t2", "UNSERVABLE")
            assert child.uplink.held == 1
            async with Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
                await leaf.ends(await leaf.given(), DONE)
                assert (await stream.result()).task_id == "t1"


async def test_what_the_workers_of_other_nodes_cannot_do_is_given_back_though_they_have_the_skill(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), escalate_after=0.2, cleanup=0.1) as child:
        text, _ = text_of(Provided(frozenset({"leaf"}), frozenset({Offering("leaf", contract="of-other-params")})))
        await child.store.put_document("providers", "n2", text, version=0)
        stream = await child.linked()
        await offered(stream, "t1", "named", {"of": "leaf"})
        assert (await answer(stream)).HasField("accepted")
        assert (await answer(stream)).rejected.reason == "UNSERVABLE"


async def test_a_fan_out_is_given_back_while_none_of_it_was_with_a_worker(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), escalate_after=0.2, cleanup=0.1) as child:
        stream = await child.linked()
        await offered(stream, "t1", "spread", {"of": ["leaf", "nobodys"]})
        assert (await answer(stream)).HasField("accepted")
        assert (await answer(stream)).rejected.reason == "UNSERVABLE"
        async with Leaf(child.engine, "leaf", Skill("leaf"), credits=1) as leaf:
            await offered(stream, "t2", "spread", {"of": ["leaf", "nobodys"]})
            given = await leaf.given()
            assert (await answer(stream)).HasField("accepted")
            await another_is_given_back(stream, "later")
            # And one whose workers are busy waits.
            await offered(stream, "t3", "spread", {"of": ["leaf"]})
            assert (await answer(stream)).HasField("accepted")
            await another_is_given_back(stream, "last")
            await leaf.ends(given, DONE)
            assert (await leaf.given()).job_id != given.job_id


@pytest.mark.parametrize(("blueprint", "of"), [("spread", ["leaf", "leaf"]), ("outer", "leaf")])
async def test_what_found_nobody_first_is_given_back_once_the_holon_that_came_has_given_back_all_of_it(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, blueprint: str, of: Any
) -> None:
    monkeypatch.setattr(escalation, "LOOK_S", 0.02)
    async with a_child(certificates, [*blueprints(), *in_parts()], escalate_after=0.2, cleanup=0.1) as child:
        dispatcher, looked, came = child.engine.dispatcher, asyncio.Event(), asyncio.Event()
        can_do = dispatcher.can_do

        def seems(need: Need, but: Collection[str] | None = None) -> bool:
            if but is None:
                return can_do(need)
            # Nobody can at the first look; then the one who comes could, and when he is there, what he says counts.
            first = not looked.is_set()
            looked.set()
            return can_do(need, but) if first or came.is_set() else True

        stream = await child.linked()
        monkeypatch.setattr(dispatcher, "can_do", seems)
        await offered(stream, "t1", blueprint, {"of": of})
        assert (await answer(stream)).HasField("accepted")
        async with asyncio.timeout(GUARD):
            await looked.wait()
        async with Leaf(child.engine, "leaf", Skill("leaf"), holon=HolonIdentity("below", 1, "i")) as leaf:
            for _ in range(len(of) if blueprint == "spread" else 1):
                given = await leaf.given()
                assert child.engine.workers.rejected(leaf.member, given.task_id, given.lease_id, unbegun=True)
            came.set()
            update = await answer(stream)
            assert (update.task_id, update.rejected.reason) == ("t1", "UNSERVABLE")
            assert "no worker below the holons that offer skill 'leaf' can do it" in update.rejected.message
