"""The HTTP door: clients who do not read, who go away, or who are too many."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
import tracemalloc
import weakref
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

from holon.transports.http.connection import Connection
from holon.transports.http.connection_limit import ConnectionLimit
from holon.transports.http.door import HttpSettings
from tests.integration.http_node import GUARD, Node, running, until
from tests.integration.http_wire import answers

STATUS = b"GET /_public/status HTTP/1.1\r\nHost: x\r\n\r\n"
# About a megabyte and a half.
LARGE = b"GET /_public/docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


async def connected(node: Node, sent: bytes) -> socket.socket:
    """A connection that takes in little of what it does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", node.door.port))
    await loop.sock_sendall(connection, sent)
    return connection


async def test_an_answer_that_nobody_reads_is_not_kept_for_ever() -> None:
    async with running(HttpSettings(port=0, silence=0.2)) as node:
        with await connected(node, LARGE * 20):
            await until(node, "connections=1 requests=1")
            await until(node, "connections=0 requests=0")
        assert (await node.client.get("/_public/status")).status_code == 200


async def test_many_who_do_not_read_a_large_page_cost_little() -> None:
    many = 20
    async with running(HttpSettings(port=0)) as node:
        size = len((await node.client.get(LARGE.split()[1].decode())).content)
        tracemalloc.start()
        try:
            with ExitStack() as connections:
                for _ in range(many):
                    connection = connections.enter_context(await connected(node, LARGE * 3))
                    assert await asyncio.get_running_loop().sock_recv(connection, 1)
                await until(node, f"connections={many + 1} requests={many}")
                held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < many * size / 2


async def test_an_answer_that_is_read_slowly_comes_to_its_end() -> None:
    async with running(HttpSettings(port=0, silence=0.2)) as node:
        size = len((await node.client.get(LARGE.split()[1].decode())).content)
        loop, got = asyncio.get_running_loop(), 0
        with await connected(node, LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as connection:
            while part := await asyncio.wait_for(loop.sock_recv(connection, 16 * 1024), GUARD):
                got += len(part)
                await asyncio.sleep(0.005)
        assert got > size


def test_what_was_asked_behind_each_other_is_dropped_without_a_word_when_the_client_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        async with running(HttpSettings(port=0)) as node:
            for _ in range(5):
                with await connected(node, LARGE * 3) as connection:
                    assert await asyncio.get_running_loop().sock_recv(connection, 1)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await until(node, "connections=0 requests=0")
            assert (await node.client.get("/_public/status")).status_code == 200

    # The node's own loop: it minds what others pass over.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_nothing_is_kept_of_a_connection_that_was_reset() -> None:
    async with running(HttpSettings(port=0, keep_alive=3600)) as node:
        with await connected(node, STATUS) as connection:
            assert await asyncio.get_running_loop().sock_recv(connection, 1)
            served = [weakref.ref(one) for one in gc.get_objects() if type(one) is Connection]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with asyncio.timeout(GUARD):
            while any(one() is not None for one in served):
                await asyncio.sleep(0)
                gc.collect()
        assert served


async def test_one_address_has_no_more_connections_than_it_leaves_to_the_others_and_none_is_beyond_the_limit() -> None:
    async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", node.door.port, local_addr=(address, 0))

    async def is_refused(address: str) -> bool:
        reader, writer = await dial(address)
        writer.write(STATUS)
        try:
            return b" 503 " in await asyncio.wait_for(reader.readline(), GUARD)
        finally:
            writer.close()

    async with running(HttpSettings(port=0, connections=4)) as node:
        taken = [await dial("127.0.0.2") for _ in range(2)]
        await until(node, "connections=2")
        assert await is_refused("127.0.0.2")
        for address in ("127.0.0.3", "127.0.0.4"):
            taken.append(await dial(address))
            await until(node, f"connections={len(taken)}")
            assert await is_refused("127.0.0.3")
        assert await is_refused("127.0.0.5")
        for _, writer in taken:
            writer.close()
        await until(node, "connections=0")
        assert not await is_refused("127.0.0.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("192.0.2.1", 1), ("192.0.2.1", 2), True),
        (("192.0.2.1", 1), ("192.0.2.2", 1), False),
        (("::ffff:192.0.2.1", 1, 0, 0), ("192.0.2.1", 1), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8::ffff:1", 1, 0, 0), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2", 1, 0, 0), True),
    ],
)
def test_connections_of_one_machine_count_together(one: Any, other: Any, same: bool) -> None:
    limit = ConnectionLimit(2)
    place = limit.take(one)
    assert place is not None
    assert (limit.take(other) is None) is same
    place.leave()
    place.leave()
    assert limit.take(one) is not None


async def test_one_connection_too_many_is_refused_and_the_others_go_on() -> None:
    async with running(HttpSettings(port=0, connections=4)) as node:
        two = [await asyncio.open_connection("127.0.0.1", node.door.port) for _ in range(2)]
        await until(node, "connections=2")
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        (refused,) = answers(await asyncio.wait_for(reader.read(), GUARD))
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "CONNECTIONS_FULL", "1")
        writer.close()
        for reader, writer in two:
            writer.write(STATUS)
            assert b" 200 " in await asyncio.wait_for(reader.readline(), GUARD)
            writer.close()
        await until(node, "connections=0")
        assert (await node.client.get("/_public/status")).status_code == 200
