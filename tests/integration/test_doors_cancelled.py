"""Doors whose opening is cancelled, at whatever moment: their ports are nobody's, and can be listened on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.integration.http_node import running
from tests.ports import free_ports
from transports.grpc.server import Server
from transports.grpc.settings import DoorSettings
from transports.http.door import HttpSettings

# An opening takes fewer turns of the loop, once the addresses of its host are known.
TURNS = 8


def grpc_door(port: int) -> AbstractAsyncContextManager[object]:
    settings = DoorSettings(port=port)
    return Server("door", ("HOST", "PORT"), settings, (), (), None, client_certificates=False, max_streams=1)


def http_door(port: int) -> AbstractAsyncContextManager[object]:
    return running(HttpSettings(port=port))


@pytest.mark.parametrize("door", [grpc_door, http_door])
async def test_a_door_whose_opening_is_cancelled_leaves_its_port_to_others(
    monkeypatch: pytest.MonkeyPatch, door: Callable[[int], AbstractAsyncContextManager[object]]
) -> None:
    (port,) = free_ports(1)

    async def addresses(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    opened = False

    async def open_it() -> None:
        nonlocal opened
        async with door(port):
            opened = True
            await asyncio.Event().wait()

    for turns in range(TURNS):
        opening = asyncio.create_task(open_it())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait((opening,))
        assert opening.cancelled()
        socket.create_server(("127.0.0.1", port)).close()
    assert opened
