"""Files read again by every node of a Redis, when one of them was asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from holon.client import Client, Update
from holon.errors import Unauthenticated
from holon.testing import running_node
from tests.integration.cases.site import one_task
from tests.redis_server import RedisServer

GUARD = 20.0
OLD = "an-old-token-of-the-shop-an-old-token-of-the-shop"
NEW = "a-new-token-of-the-shop-a-new-token-of-the-shop"


async def to_the_end(watching: AsyncIterator[Update]) -> None:
    async for _ in watching:
        pass


async def test_a_token_that_one_node_is_told_to_forget_stops_at_the_others(server: RedisServer, tmp_path: Path) -> None:
    uri = server.uri(server.database())
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.touch(0o600)
        file.write_text(f'[shop]\ntoken = "{OLD}"')
    async with AsyncExitStack() as stack, asyncio.timeout(GUARD):
        asked, other = [
            await stack.enter_async_context(
                running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID=file.name, CLIENTS_CONFIG_PATH=str(file))
            )
            for file in files
        ]

        def at_other(token: str) -> Client:
            return Client(f"grpcs://localhost:{other.ports.client}", token, other.folder / "ca.pem")

        async with (
            at_other(OLD) as shop,
            aclosing(shop.watch((await shop.create_job("one_task", {})).job_id)) as watching,
        ):
            await anext(watching)
            for file in files:
                file.write_text(f'[shop]\ntoken = "{NEW}"')
            await asked.client.node.reload(["clients"])
            with pytest.raises(Unauthenticated):
                await to_the_end(watching)
        async with at_other(NEW) as shop:
            assert len([job async for job in shop.list_jobs()]) == 1
