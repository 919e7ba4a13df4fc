"""Calls of the HTTP door over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl

from tests.integration.http_node import GUARD, TOKEN, Node
from tests.integration.tls_site import Site, only

STATUS = b"GET /_public/status HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = STATUS.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CREATE = f"POST /api/v1/jobs/waiting HTTP/1.1\r\nHost: x\r\nX-Client-Token: {TOKEN}\r\n".encode()
LARGE = b"GET /_public/docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


async def dial(node: Node, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(GUARD):
        return await asyncio.open_connection("127.0.0.1", node.door.port, ssl=context, server_hostname="localhost")


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> bytes:
    """Send a request, and read the head and body of one answer."""
    writer.write(sent)
    async with asyncio.timeout(GUARD):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head + await reader.readexactly(length)


def at_once(port: int, context: ssl.SSLContext) -> bytes:
    """The answer to who sends the request in one packet with the end of his handshake."""
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = context.wrap_bio(come, go, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), GUARD) as wire:
        while True:
            try:
                side.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.sendall(go.read())
                come.write(wire.recv(65_536))
        side.write(LAST)
        wire.sendall(go.read())
        while True:
            try:
                return side.read(65_536)
            except ssl.SSLWantReadError:
                come.write(wire.recv(65_536))


async def speaks(node: Node, site: Site, version: ssl.TLSVersion, suites: str) -> tuple[str, str]:
    """What is agreed on with a client that speaks this version alone, and of 1.2 and older these suites alone."""
    context = site.trust()
    context.set_ciphers(f"{suites}:@SECLEVEL=0")
    only(context, version)
    _, writer = await dial(node, context)
    secured = writer.get_extra_info("ssl_object")
    writer.close()
    return str(secured.version()), str(secured.cipher()[0])


async def serves(node: Node, context: ssl.SSLContext) -> bool:
    """Whether a client gets an answer; in TLS 1.3 it hears of a refusal only after its own handshake."""
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await dial(node, context)
        return (await ask(reader, writer, LAST)).startswith(b"HTTP/1.1 200 ")
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer is not None:
            writer.close()


def once_more(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool | None]:
    """Ask, with a session of before; the session of now, and whether it is that one."""
    with (
        socket.create_connection(("127.0.0.1", port), GUARD) as wire,
        context.wrap_socket(wire, server_hostname="localhost", session=session) as side,
    ):
        side.sendall(LAST)
        if not side.recv(65_536):
            raise ConnectionResetError
        return side.session, side.session_reused
