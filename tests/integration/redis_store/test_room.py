"""The store's Lua has room to grow: whoever adds to it is told here, long before a server takes none of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holon.storage.redis import scripts
from holon.stores.redis_servers import Server
from tests.redis_server import RedisServer

# So many more names may be defined for all operations, and used by each of them: Lua takes 200 in one place, and one
# function uses no more than 60 of those around it.
ROOM = 20


@contextmanager
def more_names(count: int) -> Iterator[None]:
    """So many more names are defined meanwhile, and each operation uses all of them."""
    names = ", ".join(f"spare_{n}" for n in range(count))
    source = scripts._source

    def longer(name: str) -> str:
        if name == "prelude":
            return f"local {names}\n{source(name)}"
        return source(name) + (f"local function spare() return {names} end\n" if name in scripts._ALL else "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "_source", longer)
        scripts.functions.cache_clear()
        yield
    scripts.functions.cache_clear()


async def test_every_server_takes_operations_with_many_more_names(each_server: RedisServer) -> None:
    connection = await Server(each_server.uri()).connect()
    try:
        with more_names(ROOM):
            await scripts.functions().load(connection)
    finally:
        await connection.disconnect(nowait=True)
