"""Marks: a store knows which keys have sealed, before they do; who lacks one finds out at the start, or is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holon.clock import ManualClock
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import Document, StoreSettings
from holon.storage.memory import MemoryStorage
from holon.stores.sealing import Seal, key_id
from holon.stores.sealing.marks import KIND, Marks

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
KEPT = 3_600_000
GUARD = 10.0


class Store(MemoryStorage):
    """Tells when a look at the marks is over, and what sealed when one was written."""

    def __init__(self) -> None:
        self.manual = ManualClock()
        super().__init__(StoreSettings("a"), self.manual)
        self.looked = asyncio.Event()
        self.failures = 0

    async def documents(self, kind: str) -> list[Document]:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away", retry_after=0.001)
        found = list(await super().documents(kind))
        self.looked.set()
        return found

    async def marks(self) -> dict[str, int | None]:
        return {mark.key: mark.expires_at for mark in await super().documents(KIND)}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store() as store:
        yield store


async def begun(store: Store, *keys: bytes) -> tuple[Marks, Seal]:
    seal = Seal(keys)
    marks = Marks(store, seal, keys, KEPT)
    await marks.begin()
    return marks, seal


@asynccontextmanager
async def running(marks: Marks) -> AsyncIterator[None]:
    task = asyncio.create_task(marks.run())
    yield
    task.cancel()
    await asyncio.wait((task,))


async def looked(store: Store) -> None:
    store.looked.clear()
    async with asyncio.timeout(GUARD):
        await store.looked.wait()


def sealed_by(seal: Seal) -> str:
    return seal.seal("t", "r", "f", b"x")[2:10].hex()


async def test_the_key_that_seals_is_marked_and_others_are_not_until_they_do(store: Store) -> None:
    await begun(store, OLD, NEW)
    assert await store.marks() == {key_id(OLD): None}


@pytest.mark.parametrize("keys", [(), (NEW,)])
async def test_who_lacks_a_key_does_not_begin(store: Store, keys: tuple[bytes, ...]) -> None:
    await begun(store, OLD)
    with pytest.raises(ConfigError, match=f"{key_id(OLD)}.*ENCRYPTION_KEY_FILE"):
        await begun(store, *keys)
    await begun(store, NEW, OLD)


async def test_a_mark_that_was_changed_is_refused(store: Store) -> None:
    await begun(store, OLD)
    [mark] = await store.documents(KIND)
    await store.put_document(KIND, mark.key, mark.value[:-1] + bytes([mark.value[-1] ^ 1]), version=mark.version)
    with pytest.raises(ConfigError, match="mark"):
        await begun(store, OLD)


async def test_a_new_key_seals_once_it_is_marked_and_the_old_ones_mark_ends_after_a_while(store: Store) -> None:
    marks, seal = await begun(store, OLD)
    marks.use((NEW, OLD))
    assert sealed_by(seal) == key_id(OLD)
    async with running(marks):
        await looked(store)
    assert sealed_by(seal) == key_id(NEW)
    assert await store.marks() == {key_id(NEW): None, key_id(OLD): store.manual.now_ms() + KEPT}
    assert key_id(OLD) in marks.missing((NEW,))
    store.manual.advance(KEPT)
    await begun(store, NEW)


async def test_a_key_that_seals_again_keeps_its_mark(store: Store) -> None:
    await begun(store, OLD)
    await begun(store, NEW, OLD)
    await begun(store, OLD, NEW)
    assert await store.marks() == {key_id(OLD): None, key_id(NEW): store.manual.now_ms() + KEPT}


async def test_a_node_is_told_of_a_key_that_another_seals_with_and_it_has_not(
    store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "holon.stores.sealing")
    marks, _ = await begun(store, OLD)
    async with running(marks):
        await looked(store)
        assert caplog.records == []
        await begun(store, NEW, OLD)
        for _ in range(2):
            marks.hints.changed(frozenset({KIND}))
            await looked(store)
    assert len(caplog.records) == 1
    assert key_id(NEW) in caplog.text
    # That is no reason not to read its own file again.
    assert marks.missing((OLD,)) == ""


async def test_marks_that_wait_for_the_store_are_told_of_once_and_followed_when_it_is_back(
    store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marks, _ = await begun(store, OLD)
    await begun(store, NEW, OLD)
    caplog.clear()
    store.failures = 3
    async with running(marks):
        await looked(store)
    later, missed = caplog.messages
    assert later == "the marks of encryption keys are made and looked at later: away"
    assert key_id(NEW) in missed


async def test_which_key_seals_is_logged_when_it_is_another_one(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holon.stores.sealing")
    marks, _ = await begun(store, OLD)
    async with running(marks):
        await looked(store)
        for keys in ((OLD,), (OLD, NEW), (NEW, OLD), (NEW, OLD)):
            marks.use(keys)
            await looked(store)
    assert caplog.messages == [f"what is stored is sealed with the key {key_id(key)} from now on" for key in (OLD, NEW)]
