"""The acceptance cases run on every store."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from holon.testing import running_node
from tests.integration.cases.site import Start

CHOSEN = [name for name in ("memory", "sqlite") if name in os.environ.get("HOLON_TEST_STORAGE", "memory,sqlite")]


@pytest.fixture(params=CHOSEN)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts a node over a store of its own: `async with start(blueprint, SETTING=value) as node`."""
    # A killed process loses nothing of NORMAL either, and nothing here cuts the power.
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"}
    return partial(running_node, STORAGE_URI=stores[request.param])
