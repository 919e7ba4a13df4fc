"""What a child notes of its parent's tasks: before the parent hears of them, and for as long as they may come again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from holon.domain.fleet import Skill
from holon.domain.job import Status
from holon.domain.task import SUCCESS, Outcome
from holon.errors import StoreUnavailable
from holon.ports import NewJob, Note, Put
from holon.uplink import books, running
from holon.uplink.books import KIND
from tests.integration.a_child import PARENT, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates
from tests.integration.uplink.echoing import blueprints, finishes


async def test_a_job_of_the_parent_is_in_the_books_before_the_parent_hears_of_it(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await offered(stream, "t1", "waits")
        assert (await answer(stream)).HasField("accepted")
        (entry,) = [orjson.loads(one.value) for one in await child.store.documents(KIND)]
        assert (entry["task_id"], entry["job_id"]) == ("t1", (await child.jobs())[0].job.id)


async def test_a_job_of_the_parent_is_made_together_with_what_the_books_say_of_it(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        create = child.store.create_jobs
        kept: list[Note | None] = []

        def creating(items: Sequence[NewJob], *arguments: Any) -> Any:
            kept.extend(one.note for one in items)
            return create(items, *arguments)

        monkeypatch.setattr(child.store, "create_jobs", creating)
        await offered(stream, "t1", "waits")
        assert (await answer(stream)).HasField("accepted")
        (note,), (document,) = kept, await child.store.documents(KIND)
        assert note is not None
        assert (document.key, document.value) == ("t1", note.put.value)


async def test_who_has_lost_the_link_makes_no_job_of_a_task_that_another_node_has_taken(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await child.until(lambda: child.uplink.linked)
        await child.store.put_document(KIND, "t1", b"another node's", version=0)
        await offered(stream, "t1", "waits")
        await stream.wait(stream.gone)
        assert await child.jobs() == []


async def test_a_job_that_may_have_been_made_all_the_same_is_stopped_and_the_task_begins_anew(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        create = child.engine.jobs.create_for_parent

        async def failing(*arguments: Any) -> Any:
            await create(*arguments)
            return [StoreUnavailable("the store is away")]

        with monkeypatch.context() as patched:
            patched.setattr(child.engine.jobs, "create_for_parent", failing)
            await offered(stream, "t1", "waits")
            assert (await answer(stream)).rejected.reason == "BUSY"
        await offered(stream, "t1", "waits", lease_id="second", attempt=2)
        assert (await answer(stream)).HasField("accepted")
        assert sorted(one.job.status for one in await child.jobs()) == [Status.CANCELLED, Status.WAITING_FOR_WORKER]


async def test_a_delegation_whose_job_was_never_made_is_dropped_at_the_next_start(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        entry = {
            "parent": PARENT,
            "task_id": "t1",
            "job_id": "0-none",
            "generation": 1,
            "attempt": 1,
            "lease_id": "l1",
            "run": 0,
            "deadline": None,
            "withdrawn": False,
        }
        await child.store.put_document(KIND, "t1", orjson.dumps(entry), version=0)
        # What is no entry harms nobody.
        await child.store.put_document(KIND, "t2", b"\xff", version=0)
        async with a_child(certificates, blueprints(), store=child.store, parent=child.parent) as again:
            stream = await again.linked()
            assert not stream.hello.HasField("resume")
            assert [one.key for one in await child.store.documents(KIND)] == ["t2"]


async def test_of_the_tasks_that_were_taken_back_the_oldest_are_forgotten(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "MAX_REMEMBERED", 2)
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        for n in range(4):
            await offered(stream, f"t{n}", "waits")
            assert (await answer(stream)).HasField("accepted")
        for n in range(4):
            await stream.stop(f"t{n}", "LEASE_LOST")
        for _ in range(4):
            assert (await answer(stream)).rejected.reason == "STALE_OFFER"

        left: list[str] = []
        async with asyncio.timeout(GUARD):
            while len(left) != 2:
                await asyncio.sleep(0.001)
                left = [one.key for one in await child.store.documents(KIND)]
        # One of them that comes again, as nobody knows it: its job is found to be over, and another does it.
        forgotten = next(one for one in ("t0", "t1", "t2", "t3") if one not in left)
        await offered(stream, forgotten, "waits", lease_id="again", attempt=2)
        assert (await answer(stream)).HasField("accepted")


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_late_word_of_an_older_result_takes_no_newer_job_out_of_the_books(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, generation: int
) -> None:
    monkeypatch.setattr(books, "GATHER_S", 0.0)
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"})
        await leaf.ends(await leaf.given(), Outcome(SUCCESS, b"{}"))
        assert (await stream.result()).lease_id == "t1-lease"
        # The parent had it before, and the word of that was lost with an older stream.
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", generation=generation, attempt=2)
        if generation == 2:
            await leaf.given()
        else:
            assert (await stream.result()).lease_id == "newer"
        await stream.ack("t1")
        # What is settled is deleted in its order.
        await finishes(child, stream, "t2")
        left = ["t2"]
        async with asyncio.timeout(GUARD):
            while "t2" in left:
                await asyncio.sleep(0.001)
                left = [one.key for one in await child.store.documents(KIND)]
        assert left == ["t1"]


async def test_a_task_that_comes_back_while_the_oldest_are_forgotten_has_its_result_told(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "MAX_REMEMBERED", 1)
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "old", "waits")
        assert (await answer(first)).HasField("accepted")
        await first.stop("old", "LEASE_LOST")
        assert (await answer(first)).HasField("rejected")
        monkeypatch.setattr(running, "_COMES_BACK_S", GUARD)
        await offered(first, "t1", "waits", {"of": "a"})
        assert (await answer(first)).HasField("accepted")
        given = await leaf.given()
        first.end()
        second = await child.linked(session_id="second")
        await offered(second, "t2", "unknown")
        assert (await answer(second)).HasField("rejected")

        put, many = child.store.put_document, child.store.put_documents
        forgetting, comes_back = asyncio.Event(), asyncio.Event()

        async def slowly(kind: str, key: str, text: bytes | None, **more: Any) -> Any:
            if (kind, text) == (KIND, None):
                forgetting.set()
                await comes_back.wait()
            return await put(kind, key, text, **more)

        async def many_slowly(kind: str, puts: Sequence[Put]) -> Any:
            if kind == KIND:
                forgetting.set()
                await comes_back.wait()
            return await many(kind, puts)

        monkeypatch.setattr(child.store, "put_document", slowly)
        monkeypatch.setattr(child.store, "put_documents", many_slowly)
        # Its lease is gone, so nobody can be told of its end yet.
        await leaf.ends(given, Outcome(SUCCESS, b"{}"))
        await second.wait(forgetting)
        await offered(second, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        told = await second.result()
        comes_back.set()
        assert (told.lease_id, told.result.status) == ("newer", "success")
