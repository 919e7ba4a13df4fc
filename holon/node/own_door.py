"""The composition root: the way into a node for the program that it runs in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from holon.errors import ConfigError
from holon.files import SOCKET_PATH_BYTES
from holon.transports.grpc.admin_door import AdminDoor


class OwnDoor:
    """A socket that nobody but this process's user can open. It is made when it is first asked for, if it is.

    Arguments:
        make: a door at a path, to be entered.
    """

    def __init__(self, make: Callable[[str], AdminDoor]) -> None:
        self._make = make
        self._door: AdminDoor | None = None
        self._opened = AsyncExitStack()
        self._address = ""
        self._over = False
        self._one = asyncio.Lock()

    def __repr__(self) -> str:
        return f"OwnDoor({self._address})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._one:
            self._over = True
            await self._opened.aclose()

    async def address(self) -> str:
        """Where it is, as a client is given it.

        Raises:
            RuntimeError: it was left.
            ConfigError: the folder of temporary files has too long a path, or nothing can listen there.
        """
        async with self._one:
            if self._over:
                raise RuntimeError("the node is shutting down")
            if not self._address:
                folder = self._opened.enter_context(TemporaryDirectory(prefix="holon-"))
                path = str(Path(folder, "own"))
                if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
                    raise ConfigError(f"{path} is too long for a socket; set TMPDIR to a shorter path")
                self._door = await self._opened.enter_async_context(self._make(path))
                self._address = f"unix:{path}"
            return self._address

    def drain(self) -> None:
        """Take no new jobs."""
        if self._door is not None:
            self._door.drain()
