"""Shared records: several nodes keep the limit of documents together, and no call waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from holon.clock import ManualClock
from holon.errors import ResourceExhausted
from holon.ports import Note, Put
from holon.storage import shared_records
from holon.storage.shared_records import SharedRecords
from holon.stores.memory import MemoryRows
from holon.stores.port import RowStore

T = TypeVar("T")

MOST = 100


class Nodes:
    """Nodes of one store, and how often they counted documents."""

    def __init__(self, *, alone: bool = False) -> None:
        self.clock = ManualClock()
        self.rows = MemoryRows(1, self.clock)
        self.calls = 0
        self._alone = alone

    def node(self) -> SharedRecords:
        return SharedRecords(self._ask, lambda _: None, self.clock.now_ms, alone=lambda: self._alone)

    async def _ask(self, call: Callable[[RowStore], Awaitable[T]]) -> T:
        self.calls += 1
        await asyncio.sleep(0)
        answer = await call(self.rows)
        await asyncio.sleep(0)
        return answer


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_records, "MAX_DOCUMENTS", MOST)


def new(key: str, *, version: int = 0, expires_in: int | None = None) -> Note:
    return Note("keys", Put(key, b"1", version, expires_in))


async def made(node: SharedRecords, keys: list[str]) -> int:
    """How many of these documents could be made, one by one."""
    count = 0
    for key in keys:
        try:
            count += (await node.write([new(key)])) != [None]
        except ResourceExhausted:
            pass
    return count


@pytest.mark.parametrize("count", [1, 2, 16])
async def test_nodes_that_make_documents_at_once_make_as_many_as_there_may_be(count: int) -> None:
    nodes = Nodes()
    each = [nodes.node() for _ in range(count)]
    tries = [made(node, [f"{place}.{n}" for n in range(MOST)]) for place, node in enumerate(each)]
    total = sum(await asyncio.gather(*tries))
    # One more by each node, if all count when one is left.
    assert MOST <= total <= MOST + count - 1
    assert await nodes.rows.count_records("document.keys") == total
    for node in each:
        with pytest.raises(ResourceExhausted):
            await node.write([new("more")])


async def test_a_node_that_is_alone_seldom_counts() -> None:
    nodes = Nodes(alone=True)
    node = nodes.node()
    await asyncio.gather(*(node.write([new(f"{n}.{more}") for more in range(2)]) for n in range(MOST // 2)))
    assert nodes.calls == 1 + MOST // 2


async def test_of_documents_that_are_too_many_together_none_is_made() -> None:
    node = Nodes(alone=True).node()
    await node.write([new(str(n)) for n in range(MOST - 1)])
    with pytest.raises(ResourceExhausted):
        await node.write([new("a"), new("b")])
    assert await node.write([new("a")]) != [None]
    # One that is there takes no room: it has another version.
    assert await node.write([new("a")]) == [None]
    assert len(await node.documents("keys")) == MOST


async def test_what_has_expired_makes_room() -> None:
    nodes = Nodes(alone=True)
    node = nodes.node()
    await node.write([new(str(n), expires_in=1_000) for n in range(MOST)])
    with pytest.raises(ResourceExhausted):
        await node.write([new("more")])
    nodes.clock.advance(1_000)
    assert await node.write([new("more")]) != [None]
    assert await nodes.rows.count_records("document.keys") == 1
