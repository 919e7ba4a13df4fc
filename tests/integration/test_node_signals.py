"""Signals to a node of whose loop nothing is to be had: the second one ends it all the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from holon.config import Config
from holon.node import Node
from holon.node.ending import AT_ONCE_S
from holon.storage import MemoryStorage

TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of the process are again as they were."""
    before = {number: signal.getsignal(number) for number in TOLD}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
async def test_i10_a_second_signal_ends_a_node_that_is_kept_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[float] = []
    monkeypatch.setattr("holon.node.root.last_resort", lambda: Mock(within=ends.append))
    node = Node(Config({}, API_PORT=0, GRPC_PORT=0, CLIENT_GRPC_PORT=0), (), MemoryStorage())
    after: list[list[float]] = []

    def keep_busy(_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            after.append([*ends])

    await node.run_until_signalled(keep_busy)
    assert after == [[], [AT_ONCE_S]]
