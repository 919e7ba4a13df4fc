"""Reloads on every node of a store: what one marks the others follow, each with files of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.engine.reloading import Apply, Changes, Part, Reloading
from holon.engine.shared_reloading import FRESH_MS, KIND, SharedReloading
from holon.errors import ConfigError, FailedPrecondition, StoreUnavailable
from holon.ports import Document
from holon.storage.memory import MemoryStorage
from holon.telemetry.audit import By
from tests.audit_lines import audited

GUARD = 10.0
ME = By("grpc", "boss")


class File:
    """A part that counts how often it was put in force; a bad one cannot be read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bad = False
        self.times: asyncio.Queue[str] = asyncio.Queue()

    def part(self) -> Part:
        return Part(self.name, lambda: (), self.read)

    def read(self) -> Apply:
        if self.bad:
            raise ConfigError(f"{self.name} is bad")
        return self._take

    def _take(self) -> Changes:
        self.times.put_nowait(self.name)
        return ()


class Member:
    """A node's part in it."""

    def __init__(self, store: MemoryStorage, name: str) -> None:
        self.clients, self.workers = File("clients"), File("workers")
        self.reloading = Reloading([self.clients.part(), self.workers.part()])
        self.shared = SharedReloading(self.reloading, store, store.now, name)

    async def reloads(self, file: File) -> None:
        async with asyncio.timeout(GUARD):
            await file.times.get()


@asynccontextmanager
async def following(member: Member) -> AsyncIterator[None]:
    running = asyncio.create_task(member.shared.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def test_what_one_node_reloads_the_others_reload_too_and_it_does_so_once(store: MemoryStorage) -> None:
    one, other = Member(store, "one"), Member(store, "other")
    async with following(one), following(other):
        assert await one.shared.reload(["clients"], ME) == ("clients",)
        for member in (one, other):
            member.shared.hints.changed(frozenset({KIND}))
            await member.reloads(member.clients)
        await other.shared.reload((), ME)
        for member in (one, other):
            member.shared.hints.changed(frozenset({KIND}))
            await member.reloads(member.clients)
            await member.reloads(member.workers)
        assert [file.times.qsize() for member in (one, other) for file in (member.clients, member.workers)] == [0] * 4


async def test_a_bad_file_at_one_node_is_told_there_and_holds_up_nothing(
    store: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    one, other = Member(store, "one"), Member(store, "other")
    other.clients.bad = True
    async with following(other):
        await one.shared.reload((), ME)
        other.shared.hints.changed(frozenset({KIND}))
        await other.reloads(other.workers)
    told = audited(caplog)
    assert [(line["via"], line.get("on", ""), line["result"]) for line in told] == [
        ("grpc", "", "ok"),
        ("node", "clients", "CONFIG_INVALID"),
        ("node", "workers", "ok"),
    ]
    assert other.reloading.metrics.reloads.values == {("refused",): 1, ("done",): 1}


async def test_a_mark_that_cannot_be_read_is_passed_over_and_the_next_one_is_followed(store: MemoryStorage) -> None:
    one, other = Member(store, "one"), Member(store, "other")
    for key, nonsense in (("clients", b"\xff"), ("keys", b"[]"), ("tls", b'{"node":"one","at":"soon"}')):
        await store.put_document(KIND, key, nonsense, version=0)
    async with following(other):
        await one.shared.reload(["clients"], ME)
        other.shared.hints.changed(frozenset({KIND}))
        await other.reloads(other.clients)


async def test_a_node_that_waits_for_the_store_says_so_once_and_follows_when_it_is_back(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = Member(store, "one"), Member(store, "other")
    read, failures = store.documents, 3

    async def away_at_first(kind: str) -> Sequence[Document]:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("away", retry_after=0.001)
        return await read(kind)

    monkeypatch.setattr(store, "documents", away_at_first)
    await one.shared.reload(["clients"], ME)
    async with following(other):
        await other.reloads(other.clients)
    assert [one.message for one in caplog.records if one.levelno >= logging.WARNING] == [
        "a reload of other nodes is repeated here later: away"
    ]


async def test_a_bad_file_at_the_node_that_was_asked_is_marked_nowhere(store: MemoryStorage) -> None:
    one = Member(store, "one")
    one.workers.bad = True
    with pytest.raises(FailedPrecondition):
        await one.shared.reload((), ME)
    assert not await store.documents(KIND)


async def test_a_node_that_starts_follows_what_was_marked_just_now_and_nothing_older(
    store: MemoryStorage, clock: ManualClock
) -> None:
    one, other, late = (Member(store, name) for name in ("one", "other", "late"))
    await one.shared.reload(["workers"], ME)
    clock.advance(FRESH_MS)
    await one.shared.reload(["clients"], ME)
    async with following(other):
        await other.reloads(other.clients)
    clock.advance(FRESH_MS)
    async with following(late):
        await one.shared.reload(["workers"], ME)
        late.shared.hints.changed(frozenset({KIND}))
        await late.reloads(late.workers)
    assert (other.workers.times.qsize(), late.clients.times.qsize()) == (0, 0)


async def test_who_could_not_tell_the_others_says_so_and_has_reloaded(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the store is away", retry_after=1.5)

    one = Member(store, "one")
    monkeypatch.setattr(store, "put_document", away)
    with pytest.raises(StoreUnavailable, match="could not tell the other nodes: the store is away") as caught:
        await one.shared.reload(["clients"], ME)
    assert caught.value.retry_after == 1.5
    assert one.clients.times.qsize() == 1
