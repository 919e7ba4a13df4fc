"""A parent whose children are its holons, and a child that looks soon at what changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.admission import admission
from tests.integration.grpc_node import Node, a_node


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(admission=admission(tmp_path, '["child*"]\nkind = "holon"')) as node:
        yield node


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child grants its parent is counted again at once."""
    monkeypatch.setattr("holon.uplink.credits.LOOK_S", 0.02)
