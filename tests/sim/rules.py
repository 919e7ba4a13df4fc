"""The simulator: rules of the core that can be taken away, one at a time. Each must then be missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from holon.core.writer import Gate, On, Ownership, Writer
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.storage.store_time import StoreTime
from holon.stores.memory import MemoryRows
from holon.stores.port import Batch, Head, Word


def _answer_at_once(gate: Gate, future: asyncio.Future[Any], value: Any, on: On) -> None:
    gate.changed(*on)

    def answer() -> None:
        if not future.done():
            future.set_result(value)

    asyncio.get_running_loop().call_soon(answer)


def _apply_of_anybody(rows: MemoryRows, batch: Batch) -> tuple[Word, Head]:
    head = rows._shards[batch.shard].head
    return _apply(rows, replace(batch, epoch=head.epoch, token=head.token, number=head.batch + 1))


_apply = MemoryRows._apply


async def _apply_once(writer: Writer, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
    try:
        return await writer._store.apply(batches)
    except StoreUnavailable:
        return [(Word.APPLIED, writer._owned[batch.shard].head) for batch in batches]


async def _no_repair(writer: Writer, owned: Ownership, batch: Batch, head: Head) -> tuple[Word, Head]:
    return Word.GAP, head


@contextmanager
def _without_repeats() -> Iterator[None]:
    # What is missing would be noticed at the next batch, and written then.
    with mock.patch.object(Writer, "_apply", _apply_once), mock.patch.object(Writer, "_repair", _no_repair):
        yield


@contextmanager
def _with_own_clocks() -> Iterator[None]:
    """Each node goes by its own clock, which is wrong by some seconds."""
    with (
        mock.patch.object(StoreTime, "now_ms", lambda time: time._clock.now_ms()),
        mock.patch.object(StoreTime, "not_before"),
    ):
        yield


# By name: what takes the rule away, and whether the store must go back in time for it to be missed.
RULES: dict[str, tuple[Callable[[], AbstractContextManager[object]], bool]] = {
    "nothing leaves before its batch is durable": (lambda: mock.patch.object(Gate, "answer", _answer_at_once), False),
    "only the owner writes": (lambda: mock.patch.object(MemoryRows, "_apply", _apply_of_anybody), False),
    "a batch without an answer is sent again": (_without_repeats, False),
    "the time is the store's, and never goes back": (_with_own_clocks, False),
    "what the store lost is written again": (lambda: mock.patch.object(Writer, "_repair", _no_repair), True),
}
