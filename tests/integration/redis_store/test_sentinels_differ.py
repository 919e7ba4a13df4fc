"""Sentinels that do not agree on the master: the one that most of them name counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from holon.stores.redis_servers import Sentinels, ask
from tests.ports import free_ports
from tests.redis_server import RedisServer

# Less than the client library waits for one answer.
GUARD = 4.0


@asynccontextmanager
async def a_sentinel(named: int | None) -> AsyncIterator[str]:
    """The address of a sentinel that names the server at this port; None: it takes connections and never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                words = []
                for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
                    await reader.readuntil(b"\r\n")
                    words.append((await reader.readuntil(b"\r\n"))[:-2])
                port = str(named).encode()
                if named is None:
                    continue
                if words[0] == b"SENTINEL":
                    writer.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))
                else:
                    writer.write(b"+OK\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture(scope="module")
def masters() -> Iterator[dict[str, int | None]]:
    """The ports of the old master, which takes itself for one, and of the new; and none."""
    ports = free_ports(2)
    servers = [RedisServer(options=("--bind", "127.0.0.1", "--port", str(port))) for port in ports]
    yield {"old": ports[0], "new": ports[1], "silent": None}
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("named", "master"),
    [
        ("old new new", "new"),
        ("new old new", "new"),
        ("new new old", "new"),
        ("old gone new new", "new"),
        ("silent new new", "new"),
        ("silent gone new", "new"),
        ("new silent old", "new"),
        ("old new", "old"),
    ],
)
async def test_the_server_that_most_sentinels_name_is_the_master(
    masters: dict[str, int | None], named: str, master: str
) -> None:
    async with AsyncExitStack() as sentinels:
        hosts = [
            "127.0.0.1:1" if name == "gone" else await sentinels.enter_async_context(a_sentinel(masters[name]))
            for name in named.split()
        ]
        async with asyncio.timeout(GUARD):
            connection = await Sentinels(f"redis+sentinel://{','.join(hosts)}/jobs/0").connect()
            [(_, port)] = await ask(connection, ("CONFIG", "GET", "port"))
        await connection.disconnect(nowait=True)
    assert int(port) == masters[master]
