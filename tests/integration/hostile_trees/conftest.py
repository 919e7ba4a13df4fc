"""A node whose workers may be holons, and which has a client that is a stranger to the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holon.domain.client import Client
from holon.security.clients import Entry, sole
from holon.security.tokens import digest_of
from tests.integration.admission import admission
from tests.integration.grpc_node import CLIENT_TOKEN, Node, a_node
from tests.integration.hostile_trees.trees import STRANGER


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    strange = Entry(Client("stranger"), frozenset({digest_of(STRANGER)}))
    entries = (*sole(CLIENT_TOKEN), strange)
    async with a_node(
        admission=admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"'), entries=entries
    ) as node:
        yield node
