"""What a child notes of its parent's tasks while the store fails, or takes its time: in the end it is right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from holon.domain.fleet import Skill
from holon.domain.task import SUCCESS, Outcome
from holon.errors import StoreUnavailable
from holon.ports import Put
from holon.uplink import books
from holon.uplink.books import KIND
from tests.integration.a_child import Child, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.echoing import blueprints, finishes


@pytest.fixture(autouse=True)
def gathered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "GATHER_S", 0.0)


async def noted(child: Child) -> dict[str, bool]:
    """The tasks in the books, and whether they are there for a while only."""
    return {one.key: one.expires_at is not None for one in await child.store.documents(KIND)}


async def comes_to_be_noted(child: Child, wanted: dict[str, bool]) -> None:
    async with asyncio.timeout(GUARD):
        while await noted(child) != wanted:  # noqa: ASYNC110  it looks from outside
            await asyncio.sleep(0.001)


async def test_a_task_that_comes_again_after_nobody_knows_whether_it_was_deleted_is_taken(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        put, failed = child.store.put_documents, asyncio.Event()

        async def unsure(kind: str, puts: Sequence[Put]) -> Any:
            await put(kind, puts)
            failed.set()
            # By itself it asks again later.
            raise StoreUnavailable("gone while it answered", retry_after=GUARD)

        monkeypatch.setattr(child.store, "put_documents", unsure)
        await finishes(child, stream, "t1")
        await stream.wait(failed)
        await offered(stream, "t1", "waits", lease_id="next", generation=2, attempt=2)
        assert (await answer(stream)).HasField("accepted")
        assert await noted(child) == {"t1": False}


async def test_what_is_settled_while_it_is_written_is_deleted_after_that(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"})
        given = await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        put, writing, goes_on = child.store.put_document, asyncio.Event(), asyncio.Event()

        async def slowly(kind: str, *arguments: Any, **more: Any) -> Any:
            if kind == KIND:
                writing.set()
                await goes_on.wait()
            return await put(kind, *arguments, **more)

        monkeypatch.setattr(child.store, "put_document", slowly)
        # That it is to stop is noted first, and it ends meanwhile.
        await stream.stop("t1")
        await stream.wait(writing)
        await leaf.ends(given, Outcome(SUCCESS, b"{}"))
        assert (await stream.result()).result.status == SUCCESS
        await stream.ack("t1")
        await finishes(child, stream, "t2")
        # What is settled after it is not held up.
        await comes_to_be_noted(child, {"t1": False})
        goes_on.set()
        await comes_to_be_noted(child, {})
        await finishes(child, stream, "t3")
        assert child.parent.waiting == 0


async def test_a_task_that_was_taken_back_while_the_store_was_away_is_remembered_for_a_while_only(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await offered(stream, "t1", "waits")
        assert (await answer(stream)).HasField("accepted")
        put, tries = child.store.put_document, 0

        async def away_at_first(kind: str, *arguments: Any, expires_in: int | None = None, **more: Any) -> Any:
            nonlocal tries
            if kind == KIND and expires_in is not None:
                tries += 1
                if tries <= 3:
                    raise StoreUnavailable("away", retry_after=0.001)
            return await put(kind, *arguments, expires_in=expires_in, **more)

        monkeypatch.setattr(child.store, "put_document", away_at_first)
        await stream.stop("t1", "LEASE_LOST")
        assert (await answer(stream)).rejected.reason == "STALE_OFFER"
        await comes_to_be_noted(child, {"t1": True})
        assert caplog.messages.count("the end of task t1 is stored later: away") == 1


async def test_what_was_told_is_settled_once_it_is_heard_also_where_the_next_job_of_its_task_could_not_be_made(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await offered(stream, "t1", "echo", {"n": 1})
        assert (await stream.result()).result.status == SUCCESS

        async def away(*_: Any) -> Any:
            raise StoreUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(child.engine.jobs, "create_for_parent", away)
            await offered(stream, "t1", "echo", {"n": 1}, lease_id="next", generation=2, attempt=2)
            assert (await answer(stream)).rejected.reason == "BUSY"
        assert await noted(child) == {"t1": False}
        await stream.ack("t1")
        await comes_to_be_noted(child, {})
