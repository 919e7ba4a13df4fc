"""Changes of a document by what it holds: none is lost, and none is tried without end."""

from __future__ import annotations

import asyncio

import pytest

from holon.clock import ManualClock
from holon.errors import StoreUnavailable
from holon.ports import Change, Document, DocumentHints, OwnDocument, change_document
from holon.ports.documents import TRIES
from holon.storage.memory import MemoryStorage


def one_more(document: Document | None) -> tuple[int, Change | None]:
    number = 1 if document is None else int(document.value) + 1
    return number, Change(b"%d" % number)


async def test_changes_at_once_are_all_there(store: MemoryStorage) -> None:
    numbers = await asyncio.gather(*(change_document(store, "keys", "a", one_more) for _ in range(TRIES)))
    assert sorted(numbers) == list(range(1, TRIES + 1))


async def test_what_needs_no_change_writes_nothing_and_none_deletes(store: MemoryStorage) -> None:
    await change_document(store, "keys", "a", one_more)
    before = await store.document("keys", "a")
    assert await change_document(store, "keys", "a", lambda found: (found, None)) == before
    assert await store.document("keys", "a") == before
    await change_document(store, "keys", "a", lambda _: (None, Change(None)))
    assert await store.document("keys", "a") is None


async def test_who_is_never_fast_enough_is_told_to_come_again(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def faster(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1

    monkeypatch.setattr(store, "put_document", faster)
    with pytest.raises(StoreUnavailable, match="retry later") as caught:
        await change_document(store, "keys", "a", one_more)
    assert (tries, caught.value.retry_after) == (TRIES, 1.0)


async def test_what_a_node_writes_is_written_over_what_its_process_before_left_and_after_it_ran_out(
    store: MemoryStorage, clock: ManualClock
) -> None:
    before, own = OwnDocument(store, "places", "n1"), OwnDocument(store, "places", "n1")
    for writer, value in ((before, b"a"), (before, b"b"), (own, b"c"), (own, b"d")):
        version = await writer.write(value, 1_000)
        assert await store.document("places", "n1") == Document("places", "n1", version, value, store.now() + 1_000)
    clock.advance(2)
    await own.write(b"e", 1_000)
    assert [one.value for one in await store.documents("places")] == [b"e"]
    await own.write(None)
    await own.write(None)
    assert await store.documents("places") == []


async def test_a_hint_of_before_or_of_now_ends_the_wait_and_one_of_another_kind_does_not() -> None:
    hints = DocumentHints("keys", "marks")
    hints.changed(frozenset({"marks", "jobs"}))
    assert await hints.wait(60)
    hints.changed(frozenset({"jobs"}))
    assert not await hints.wait(0)
    waiting = asyncio.create_task(hints.wait(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    hints.wake()
    assert await waiting
