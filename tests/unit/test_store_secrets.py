"""Secrets of a store: every node has the same, and they are sealed with the key that seals now."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from holon.clock import ManualClock
from holon.ports import StoreSettings, place_of
from holon.security.store_secrets import KIND, SECRET_BYTES, StoreSecrets
from holon.storage.memory import MemoryStorage
from holon.stores.sealing import Seal
from holon.stores.sealing.seal import MARK

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


async def stored(store: MemoryStorage) -> bytes:
    document = await store.document(KIND, "one")
    assert document is not None
    return document.value


async def test_all_nodes_have_the_same_secret_whoever_is_first() -> None:
    async with MemoryStorage(StoreSettings("a"), ManualClock()) as store:
        nodes = [StoreSecrets(store, Seal()) for _ in range(5)]
        found = await asyncio.gather(*(node.secret("one") for node in nodes))
        assert len(set(found)) == 1
        assert len(found[0]) == SECRET_BYTES
        assert await nodes[0].secret("another") != found[0]


async def test_a_secret_is_sealed_once_there_is_a_key_and_again_once_there_is_another() -> None:
    async with MemoryStorage(StoreSettings("a"), ManualClock()) as store:
        plain = await StoreSecrets(store, Seal()).secret("one")
        assert await stored(store) == plain.hex().encode()
        for key, keys in ((OLD, (OLD,)), (NEW, (NEW, OLD))):
            assert await StoreSecrets(store, Seal(keys)).secret("one") == plain
            assert Seal((key,)).open(*place_of(KIND, "one"), await stored(store)) == plain.hex().encode()
            assert plain.hex().encode() not in await stored(store)


async def test_no_secret_is_taken_for_a_sealed_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda size: MARK * size)
    async with MemoryStorage(StoreSettings("a"), ManualClock()) as store:
        for _ in range(2):
            assert await StoreSecrets(store, Seal()).secret("one") == MARK * SECRET_BYTES
