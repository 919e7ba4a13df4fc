"""The ways in which a server can know the store's operations."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from holon.storage.redis.server import Connection, ask

log = logging.getLogger(__name__)


class Code(Protocol):
    """All operations, in one of the ways."""

    async def load(self, connection: Connection) -> None:
        """Make the server know them.

        Raises:
            ResponseError: it does not take them.
            RedisError, OSError: the connection is lost.
        """
        ...

    def call(self, operation: str) -> tuple[Any, ...]:
        """How a command begins that calls an operation; the number of keys comes next."""
        ...

    def unknown(self, reply: Any) -> bool:
        """Whether the server says that it does not know the operation (any more), and has not carried it out."""
        ...


class Functions:
    """A library of functions; the server keeps it with its data.

    Arguments:
        library: its name.
        text: the library.
    """

    def __init__(self, library: str, text: bytes) -> None:
        self._library = library
        self._text = text

    def __repr__(self) -> str:
        return f"Functions({self._library})"

    async def load(self, connection: Connection) -> None:
        [known] = await ask(connection, ("FUNCTION", "LIST", "LIBRARYNAME", self._library))
        if isinstance(known, ResponseError):
            raise known
        if not known:
            [loaded] = await ask(connection, ("FUNCTION", "LOAD", self._text))
            if isinstance(loaded, ResponseError) and "already exists" not in str(loaded):
                raise loaded

    def call(self, operation: str) -> tuple[Any, ...]:
        return "FCALL", f"{self._library}_{operation}"

    def unknown(self, reply: Any) -> bool:
        return isinstance(reply, ResponseError) and "Function not found" in str(reply)


class Scripts:
    """A script for each operation, in the server's cache.

    Arguments:
        texts: the scripts by operation.
    """

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._texts = texts
        self._digests = {name: hashlib.sha1(text, usedforsecurity=False).hexdigest() for name, text in texts.items()}

    def __repr__(self) -> str:
        return f"Scripts({len(self._texts)})"

    async def load(self, connection: Connection) -> None:
        for loaded in await ask(connection, *(("SCRIPT", "LOAD", text) for text in self._texts.values())):
            if isinstance(loaded, ResponseError):
                raise loaded

    def call(self, operation: str) -> tuple[Any, ...]:
        return "EVALSHA", self._digests[operation]

    def unknown(self, reply: Any) -> bool:
        return isinstance(reply, NoScriptError)


async def load_first(connection: Connection, codes: Sequence[Code]) -> Code:
    """Make the server know its operations, in the first of these ways that it takes; answers with that.

    Raises:
        ResponseError: it takes none of them.
        RedisError, OSError: the connection is lost.
    """
    *better, last = codes
    for code in better:
        try:
            await code.load(connection)
        except ReadOnlyError:
            # It will take it once it is the master; until then every call says so, on one connection after another.
            continue
        except ResponseError as error:
            log.info("the server of the store does not take %s: %s", code, error)
        else:
            return code
    await last.load(connection)
    return last
