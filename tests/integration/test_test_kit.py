"""The test kit: where a node under test has its files."""

from __future__ import annotations

import os
from pathlib import Path

from holon.testing import running_node

MEMORY = Path("/dev/shm")


async def test_the_files_of_a_node_wait_for_no_disk_where_memory_holds_some_and_are_gone_with_it() -> None:
    async with running_node() as node:
        folder = node.folder
        assert (folder / "ca.pem").exists()
        assert folder.is_relative_to(MEMORY) or not os.access(MEMORY, os.W_OK)
    assert not folder.exists()
