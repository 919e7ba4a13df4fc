"""A job of the parent's that ends just as its task comes again, or is stopped: it is told once more, and done once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.domain.fleet import Skill
from holon.domain.task import SUCCESS, Outcome
from holon.errors import StoreUnavailable
from holon.ports import Offer
from holon.rxon.v1 import worker_pb2
from holon.uplink import running
from holon.uplink.books import KIND
from holon.uplink.summaries import Summaries
from tests.integration.a_child import Child, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, Stream
from tests.integration.uplink.echoing import blueprints, finishes

DONE = Outcome(SUCCESS, b"{}")


@pytest.fixture(autouse=True)
def goes_on_without_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_COMES_BACK_S", GUARD)


class Gate:
    """Holds up what comes to it until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def passed(self) -> None:
        self.reached.set()
        async with asyncio.timeout(GUARD):
            await self.opened.wait()


async def without_lease(child: Child, leaf: Leaf, **more: Any) -> tuple[Stream, Offer]:
    """`t1` is under way, and its lease was lost with a stream; the next one, and what a worker does."""
    first = await child.linked(session_id="first")
    await offered(first, "t1", "waits", {"of": "a"}, **more)
    assert (await answer(first)).HasField("accepted")
    given = await leaf.given()
    first.end()
    second = await child.linked(session_id="second")
    await offered(second, "t0", "unknown")
    assert (await answer(second)).HasField("rejected")
    return second, given


async def test_a_job_that_ends_while_its_newer_lease_is_noted_is_told_under_it_and_owed_until_that_is_heard(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream, given = await without_lease(child, leaf)
        put, gate = child.store.put_document, Gate()

        async def slowly(kind: str, *arguments: Any, **more: Any) -> Any:
            if kind == KIND:
                await gate.passed()
            return await put(kind, *arguments, **more)

        monkeypatch.setattr(child.store, "put_document", slowly)
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        await stream.wait(gate.reached)
        await leaf.ends(given, DONE)
        told = await stream.result()
        assert (told.lease_id, told.result.status) == ("newer", SUCCESS)
        gate.opened.set()
        await finishes(child, stream, "t2")
        assert [one.expires_at for one in await child.store.documents(KIND) if one.key == "t1"] == [None]


async def test_what_was_told_under_a_newer_lease_that_could_not_be_noted_is_settled_once_it_is_heard(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.uplink.books.GATHER_S", 0.0)
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream, given = await without_lease(child, leaf)
        put, gate = child.store.put_document, Gate()

        async def refused(kind: str, *arguments: Any, **more: Any) -> Any:
            if kind != KIND:
                return await put(kind, *arguments, **more)
            await gate.passed()
            raise StoreUnavailable("the store is away for a moment")

        monkeypatch.setattr(child.store, "put_document", refused)
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        await stream.wait(gate.reached)
        await leaf.ends(given, DONE)
        assert (await stream.result()).lease_id == "newer"
        gate.opened.set()
        await finishes(child, stream, "t2")
        ack = worker_pb2.ResultAck(task_id="t1", lease_id="newer", verdict=worker_pb2.VERDICT_COMMITTED)
        await stream.send(update_acks=worker_pb2.UpdateAcks(results=[ack]))
        async with asyncio.timeout(GUARD):
            while await child.store.documents(KIND):  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0.001)


async def test_what_is_over_is_not_stopped_any_more_when_its_newer_lease_cannot_be_noted(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream, given = await without_lease(child, leaf)
        add, put, gate = Summaries.add, child.store.put_document, Gate()

        async def slowly(*arguments: Any) -> None:
            await gate.passed()
            await add(*arguments)

        async def refused(kind: str, *arguments: Any, **more: Any) -> Any:
            if kind == KIND:
                monkeypatch.setattr(child.store, "put_document", put)
                raise StoreUnavailable("the store is away for a moment")
            return await put(kind, *arguments, **more)

        monkeypatch.setattr(Summaries, "add", slowly)
        await leaf.ends(given, DONE)
        await stream.wait(gate.reached)
        monkeypatch.setattr(child.store, "put_document", refused)
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        assert (await answer(stream)).rejected.reason == "BUSY"
        gate.opened.set()
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newest", attempt=3)
        told = await stream.result()
        assert (told.lease_id, told.result.status, leaf.offers.empty()) == ("newest", SUCCESS, True)
        assert len(await child.jobs()) == 1


async def test_a_task_that_comes_again_while_it_is_told_what_it_cost_in_vain_is_answered(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        add, gate, summaries = Summaries.add, Gate(), 0

        async def slowly(*arguments: Any) -> None:
            nonlocal summaries
            summaries += 1
            # The first is of a result, which nobody waits for any more.
            if summaries == 2:
                await gate.passed()
            await add(*arguments)

        monkeypatch.setattr(Summaries, "add", slowly)
        stream, _ = await without_lease(child, leaf, time_left=Duration(nanos=500_000_000))
        await stream.wait(gate.reached)
        more = {"lease_id": "newer", "attempt": 2, "time_left": Duration(seconds=10)}
        await offered(stream, "t1", "waits", {"of": "a"}, **more)
        assert (await answer(stream)).HasField("accepted")
        gate.opened.set()
        told = await stream.result()
        assert (told.lease_id, told.result.error.code) == ("newer", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("reason", ["", "UNSERVABLE", "UNSURE", "DEADLINE_EXCEEDED", "TIRED"])
async def test_whatever_a_parent_calls_the_reason_for_a_stop_its_work_is_cancelled(
    certificates: Certificates, reason: str
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"})
        assert (await answer(stream)).HasField("accepted")
        await leaf.given()
        await stream.stop("t1", reason)
        assert (await answer(stream)).result.status == "cancelled"


async def test_a_task_whose_job_could_not_be_made_again_has_the_result_of_the_first_told(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.uplink.books.GATHER_S", 0.0)
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        # Nobody used the result: the task may come again.
        await finishes(child, stream, "t1")
        async with asyncio.timeout(GUARD):
            while await child.store.documents(KIND):  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0.001)

        async def away(*_: Any) -> Any:
            return [StoreUnavailable("away")]

        with monkeypatch.context() as patched:
            patched.setattr(child.engine.jobs, "create_for_parent", away)
            await offered(stream, "t1", "echo", {"n": 1}, lease_id="second", attempt=2)
            assert (await answer(stream)).HasField("rejected")
        await offered(stream, "t1", "echo", {"n": 1}, lease_id="third", attempt=3)
        assert (await stream.result()).lease_id == "third"
        assert len(await child.jobs()) == 1


async def test_what_is_over_and_whose_newer_lease_is_perhaps_noted_is_owed_no_more_than_before(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream, given = await without_lease(child, leaf)
        await leaf.ends(given, DONE)

        async def owed() -> bool:
            return any(one.expires_at is None for one in await child.store.documents(KIND))

        async def is_remembered() -> None:
            async with asyncio.timeout(GUARD):
                while await owed():  # noqa: ASYNC110  it looks from outside
                    await asyncio.sleep(0.001)

        await is_remembered()
        put = child.store.put_document

        async def unsure(kind: str, *arguments: Any, **more: Any) -> Any:
            version = await put(kind, *arguments, **more)
            if kind != KIND:
                return version
            monkeypatch.setattr(child.store, "put_document", put)
            raise StoreUnavailable("gone while it answered")

        monkeypatch.setattr(child.store, "put_document", unsure)
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        assert (await answer(stream)).rejected.reason == "BUSY"
        await is_remembered()
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newest", attempt=3)
        assert (await stream.result()).lease_id == "newest"
