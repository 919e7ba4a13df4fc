"""The command line: the node that its commands talk to, through the client gRPC door."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from holon.cli.output import silence_grpc
from holon.errors import ConfigError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holon.cli.dev import Found
    from holon.client import Client

T = TypeVar("T")

NAMED = "HOLON_URL, HOLON_TOKEN and HOLON_CA, ADMIN_SOCKET, or .holon/dev.toml select the node."


def named_node() -> Found | None:
    """The node that the environment names, or else the development node's file; None: no node is named.

    Raises:
        ConfigError: that file cannot be read.
    """
    import os

    from holon.cli.dev import Found, read

    url = os.environ.get("HOLON_URL")
    if not url and (socket := os.environ.get("ADMIN_SOCKET")):
        url = f"unix:{os.path.abspath(socket)}"  # noqa: PTH100  as it stands there
    # The token of the development node is for that node alone.
    found = Found() if url else read()
    url = url or found.url
    if not url:
        return None
    return Found(url, os.environ.get("HOLON_TOKEN") or found.token, os.environ.get("HOLON_CA") or found.ca)


def with_client(call: Callable[[Client], Awaitable[T]]) -> T:
    """Run a call with a client of the node that is named.

    Returns:
        what the call returns; it raises what that raises.
    Raises:
        ConfigError: no node is named, or its address cannot be used.
    """
    import asyncio

    silence_grpc()
    from holon.client import Client

    named = named_node()
    if named is None or named.url is None:
        raise ConfigError(
            "no node is set. Set HOLON_URL (grpcs://host:7701), HOLON_TOKEN and HOLON_CA, or ADMIN_SOCKET, or run "
            "`holon serve --dev` in this folder"
        )
    url, token, ca = named.url, named.token, named.ca

    async def go() -> T:
        async with Client(url, token, ca) as client:
            try:
                return await call(client)
            except Unauthenticated as error:
                hint = "HOLON_TOKEN must be the token of a client" if token else "set HOLON_TOKEN to a client's token"
                raise Unauthenticated(f"{error.message}; {hint}", code=error.code) from error

    return asyncio.run(go())
