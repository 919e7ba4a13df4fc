"""The books of a child: who may write into them, what is forgotten, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from holon.engine.requests import Accepted
from holon.errors import HolonError, StoreUnavailable
from holon.ports import Note, Put
from holon.storage.memory import MemoryStorage
from holon.uplink import books
from holon.uplink.books import KIND, Books
from holon.uplink.delegation import Delegation, origin_key
from holon.uplink.tenure import TenureLost


@pytest.fixture(autouse=True)
def gathered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "GATHER_S", 0.001)


async def kept(store: MemoryStorage) -> dict[str, bool]:
    """The tasks in the books, and whether they are there for a while only."""
    return {one.key: one.expires_at is not None for one in await store.documents(KIND)}


async def deleted(noted: Books) -> None:
    """Have deleted what is settled."""
    running = asyncio.create_task(noted.run())
    async with asyncio.timeout(10):
        while noted._settled:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
    running.cancel()


async def test_who_has_lost_the_link_cannot_write_into_the_books_of_who_has_it(store: MemoryStorage) -> None:
    old, new = Books(store), Books(store)
    await old.write(Delegation("above", "t1", "j1", 1, 1, "l1"))
    (entry,) = await new.load()
    stale = await old.find("t1")
    assert stale is not None
    entry.attempt, entry.lease_id = 2, "l2"
    await new.write(entry)
    with pytest.raises(TenureLost):
        await old.write(stale)
    assert await old.find("t1") == entry
    await new.forget(entry)
    assert await old.find("t1") is None


async def test_what_is_settled_is_deleted_soon_and_a_task_that_comes_again_before_that_is_noted(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Books(store)
    entries = [Delegation("above", f"t{n}", f"j{n}", 1, 1, "l") for n in range(4)]
    for entry in entries:
        await noted.write(entry)
        noted.settle(entry)
        assert await noted.find(entry.task_id) is None
    again = Delegation("above", "t0", "j5", 2, 2, "m")
    await noted.write(again)
    assert await noted.find("t0") == again
    put, asked = store.put_documents, 0

    async def comes_again(kind: str, puts: Sequence[Put]) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailable("away", retry_after=0.001)
        writing.append(asyncio.create_task(noted.write(Delegation("above", "t1", "j6", 2, 2, "m"))))
        await asyncio.sleep(0)
        return await put(kind, puts)

    writing: list[asyncio.Task[None]] = []
    monkeypatch.setattr(store, "put_documents", comes_again)
    running = asyncio.create_task(noted.run())
    async with asyncio.timeout(10):
        while not writing or not writing[0].done():  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
    await writing[0]
    running.cancel()
    # A node that starts finds those that are not settled, and no others.
    assert {one.task_id: one.job_id for one in await Books(store).load()} == {"t0": "j5", "t1": "j6"}


def test_the_origin_of_a_job_is_its_task_and_generation_and_the_run_after_a_withdrawal() -> None:
    keys = {origin_key(*origin) for origin in (("t", 1, 0), ("t", 2, 0), ("t", 1, 3), ("u", 1, 0))}
    assert len(keys) == 4
    assert origin_key("t", 1, 0) == origin_key("t", 1, 0)


async def test_what_is_remembered_under_a_lease_is_owed_where_its_task_has_a_newer_one(store: MemoryStorage) -> None:
    noted, entry = Books(store), Delegation("above", "t1", "j1", 1, 1, "l1")
    await noted.write(entry)
    before = entry.lease
    entry.goes_on_under("l2", 2, None)
    await noted.write(entry)
    await noted.remember(entry, before)
    assert await kept(store) == {"t1": False}
    await noted.remember(entry, entry.lease)
    assert await kept(store) == {"t1": True}


async def test_a_task_that_comes_again_is_not_the_oldest_that_is_forgotten(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "MAX_REMEMBERED", 1)
    noted = Books(store)
    old, other = (Delegation("above", task, "j", 1, 1, "l") for task in ("old", "other"))
    for entry in (old, other):
        await noted.write(entry)
    await noted.remember(old, old.lease)
    put, goes_on = store.put_document, asyncio.Event()

    async def slowly(kind: str, key: str, *arguments: Any, **more: Any) -> Any:
        if key == "old":
            await goes_on.wait()
        return await put(kind, key, *arguments, **more)

    monkeypatch.setattr(store, "put_document", slowly)
    writing = asyncio.create_task(noted.write(old))
    await asyncio.sleep(0)
    await noted.remember(other, other.lease)
    goes_on.set()
    await writing
    await deleted(noted)
    assert await kept(store) == {"old": False, "other": True}


@pytest.mark.parametrize("done", [True, False])
async def test_what_was_written_for_all_that_is_known_is_deleted_once_it_is_settled(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    noted, entry = Books(store), Delegation("above", "t1", "j1", 1, 1, "l1")
    await noted.write(entry)
    put = store.put_document

    async def unsure(*arguments: Any, **more: Any) -> Any:
        if done:
            await put(*arguments, **more)
        raise StoreUnavailable("away")

    entry.goes_on_under("l2", 2, None)
    with monkeypatch.context() as patched:
        patched.setattr(store, "put_document", unsure)
        with pytest.raises(StoreUnavailable):
            await noted.write(entry)
    noted.settle(entry)
    await deleted(noted)
    assert (await kept(store), noted.may_have("t1")) == ({}, False)


async def test_what_is_remembered_late_is_not_written_over_the_next_job_of_its_task(store: MemoryStorage) -> None:
    known, old = Books(store), Delegation("above", "t1", "j1", 1, 1, "l1", withdrawn=True)
    await known.write(old)
    new = Delegation("above", "t1", "j2", 1, 2, "l2", run=2)
    making, goes_on = asyncio.Event(), asyncio.Event()

    async def make(notes: Sequence[Note]) -> Sequence[Accepted | HolonError]:
        making.set()
        await goes_on.wait()
        [note] = notes
        noted = await store.put_document(note.kind, note.put.key, note.put.value, version=note.put.version)
        return [Accepted("j2", existing=False, noted=noted)]

    writing = asyncio.create_task(known.write_with_jobs([new], make))
    await making.wait()
    late = asyncio.create_task(known.remember(old, old.lease))
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(writing, late)
    await known.remember(old, old.lease)
    assert await kept(store) == {"t1": False}
    assert await Books(store).load() == [new]


async def test_what_is_remembered_late_is_where_no_other_job_could_be_made(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted, old = Books(store), Delegation("above", "t1", "j1", 1, 1, "l1", withdrawn=True)
    await noted.write(old)

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "put_document", away)
        with pytest.raises(StoreUnavailable):
            await noted.remember(old, old.lease)
        patched.setattr(store, "document", away)
        with pytest.raises(StoreUnavailable):
            await noted.write_with_jobs([Delegation("above", "t1", "j2", 1, 2, "l2", run=2)], never)
    await noted.remember(old, old.lease)
    assert await kept(store) == {"t1": True}


async def never(_: Sequence[Note]) -> Sequence[Accepted | HolonError]:
    raise AssertionError("nothing was to be made")


@pytest.mark.parametrize("with_jobs", [True, False])
async def test_what_was_settled_is_deleted_also_where_its_task_could_not_be_noted_anew(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, with_jobs: bool
) -> None:
    noted, entry = Books(store), Delegation("above", "t1", "j1", 1, 1, "l1")
    await noted.write(entry)
    noted.settle(entry)
    asked = asyncio.Event()

    async def away(*_: Any, **__: Any) -> Any:
        asked.set()
        raise StoreUnavailable("away", retry_after=0.001)

    again = Delegation("above", "t1", "j2", 2, 1, "l2")
    with monkeypatch.context() as patched:
        patched.setattr(store, "put_documents", away)
        patched.setattr(store, "document", away)
        running = asyncio.create_task(noted.run())
        await asked.wait()
        with pytest.raises(StoreUnavailable):
            await (noted.write_with_jobs([again], never) if with_jobs else noted.write(again))
    async with asyncio.timeout(10):
        while noted._settled:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
    running.cancel()
    assert await kept(store) == {}


async def test_where_somebody_is_at_all_that_is_settled_the_store_is_not_asked_for_anything(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, entry = Books(store), Delegation("above", "t1", "j1", 1, 1, "l1")
    put, looked, puts = store.put_document, asyncio.Event(), 0

    async def slowly(*arguments: Any, **more: Any) -> Any:
        known.settle(entry)
        running = asyncio.create_task(known.run())
        monkeypatch.setattr(known._alone, "take_if_free", is_looked_at)
        for _ in range(3):
            looked.clear()
            await looked.wait()
        running.cancel()
        return await put(*arguments, **more)

    def is_looked_at(_: str) -> bool:
        looked.set()
        return False

    async def counted(*_: Any) -> Any:
        nonlocal puts
        puts += 1

    monkeypatch.setattr(store, "put_document", slowly)
    monkeypatch.setattr(store, "put_documents", counted)
    await known.write(entry)
    assert puts == 0
