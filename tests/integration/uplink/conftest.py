"""A parent whose children are its holons, and a child that looks soon at what changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holon.uplink import offerings, providers
from tests.integration.admission import admission
from tests.integration.grpc_node import Node, a_node


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(admission=admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')) as node:
        yield node


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child grants its parent is counted again at once."""
    monkeypatch.setattr("holon.uplink.credits.LOOK_S", 0.02)


@pytest.fixture
def withdrawn_soon(soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody can do is offered no more a moment later, and other nodes hear at once what workers offer."""
    monkeypatch.setattr(offerings, "WITHDRAWN_AFTER_S", 0.3)
    monkeypatch.setattr(providers, "LOOK_S", 0.02)
