"""What a node is told for the second time ends it, and at its start for the first, whatever holds it up."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator, Sequence
from typing import Self
from unittest.mock import Mock

import pytest

from holon.config import Config
from holon.errors import StoreUnavailable
from holon.node import Node
from holon.node.ending import AT_ONCE_S, LAST_S
from holon.ports import Document
from holon.storage import MemoryStorage
from holon.storage.promises import Promise, Promises

GUARD = 20.0
REFUSED_S = 0.2
TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def config() -> Config:
    return Config({}, API_PORT=0, GRPC_PORT=0, CLIENT_GRPC_PORT=0)


class Away(MemoryStorage):
    """From some time on it refuses everybody a while after the call, whether he is cancelled or not."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = asyncio.Event()
        self._promises = Promises()

    async def documents(self, kind: str) -> Sequence[Document]:
        if not self.away:
            return await super().documents(kind)
        self.asked.set()
        refused: Promise[None] = Promise()
        asyncio.get_running_loop().call_later(REFUSED_S, refused.set_result, None)
        await self._promises.kept(refused)
        raise StoreUnavailable("it is away")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of the process are again as they were."""
    before = {number: signal.getsignal(number) for number in TOLD}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Hanging(MemoryStorage):
    """It never opens."""

    def __init__(self) -> None:
        super().__init__()
        self.opening = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.opening.set()
        await asyncio.Event().wait()
        return self


@pytest.mark.usefixtures("handlers")
async def test_i10_a_first_signal_ends_a_node_whose_start_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.node")
    ends: list[float] = []
    monkeypatch.setattr("holon.node.root.last_resort", lambda: Mock(within=ends.append))
    store, ready = Hanging(), Mock()
    running = asyncio.create_task(Node(config(), (), store).run_until_signalled(ready))
    await asyncio.wait_for(store.opening.wait(), GUARD)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, GUARD)
    assert (ends, ready.called) == ([LAST_S], False)
    assert "was stopped before it was ready" in caplog.messages[-1]


async def test_a_node_that_was_stopped_before_it_runs_does_not_start() -> None:
    node, ready = Node(config(), (), Hanging()), Mock()
    node.stop()
    await asyncio.wait_for(node.run(ready), GUARD)
    assert not ready.called


@pytest.mark.usefixtures("handlers")
async def test_i10_a_second_signal_ends_a_node_that_is_kept_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[float] = []
    monkeypatch.setattr("holon.node.root.last_resort", lambda: Mock(within=ends.append))
    node = Node(config(), (), MemoryStorage())
    after: list[list[float]] = []

    def keep_busy(_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            after.append([*ends])

    await node.run_until_signalled(keep_busy)
    assert after == [[], [AT_ONCE_S]]


async def test_i10_a_second_stop_ends_a_node_whose_store_is_away() -> None:
    store, opened = Away(), asyncio.Event()
    node = Node(config(), (), store)
    running = asyncio.create_task(node.run(lambda _: opened.set()))
    await opened.wait()
    store.away = True
    node.stop()
    await store.asked.wait()
    node.stop()
    ended, _ = await asyncio.wait((running,), timeout=GUARD)
    await running
    assert ended
