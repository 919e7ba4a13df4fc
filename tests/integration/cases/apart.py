"""Two nodes on one store, which a case takes for one: its clients are at the first, its workers at the second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from holon import Blueprint
from holon.testing import RunningNode, running_node


class Apart(RunningNode):
    """What clients see of one node, and workers of another."""

    def __init__(self, first: RunningNode, second: RunningNode) -> None:
        self.config = first.config
        self.ports = first.ports
        self.token = first.token
        self.client = first.client
        self.folder = second.folder
        self._authority = second._authority
        self._second = second

    @property
    def worker_url(self) -> str:
        return self._second.worker_url


@asynccontextmanager
async def two_nodes(*blueprints: Blueprint, **settings: Any) -> AsyncIterator[RunningNode]:
    """Two nodes with these blueprints and settings; `STORAGE_URI` must be among them."""
    async with (
        running_node(*blueprints, INSTANCE_ID="first", **settings) as first,
        running_node(*blueprints, INSTANCE_ID="second", **settings) as second,
    ):
        yield Apart(first, second)
