"""The gRPC doors over TLS: what they speak, and how their certificate is replaced while they serve."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.security.certificates import KeyPair, open_authority
from tests.integration.grpc_node import ENDED, GUARD, SESSION, Node, Wire, a_node, hello
from tests.integration.tls_site import Site, only, serial_of

HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Site.followed(tmp_path) as it:
        yield it


@pytest.fixture
async def node(site: Site) -> AsyncIterator[Node]:
    async with a_node(tls=site.files) as it:
        yield it


async def shown_by(port: int, context: ssl.SSLContext) -> asyncio.StreamWriter:
    context.set_alpn_protocols(["h2"])
    async with asyncio.timeout(GUARD):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    return writer


async def serial_at(port: int, context: ssl.SSLContext) -> str:
    writer = await shown_by(port, context)
    try:
        return serial_of(writer)
    finally:
        writer.close()


@asynccontextmanager
async def connected(node: Node, site: Site, files: KeyPair) -> AsyncIterator[grpc.aio.Channel]:
    """A worker's connection of its own."""
    own = (files.key.read_bytes(), files.certificate.read_bytes())
    trust = grpc.ssl_channel_credentials(site.authority.files.certificate.read_bytes(), *own)
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(f"localhost:{node.workers.port}", trust, options=options) as channel:
        yield channel


async def worker(channel: grpc.aio.Channel) -> Wire:
    wire = Wire(channel.stream_stream(SESSION)())
    await wire.send(hello())
    await wire.expect("welcome")
    return wire


async def test_both_doors_show_the_new_certificate_and_streams_go_on(node: Node, site: Site) -> None:
    own = site.worker()
    async with connected(node, site, own) as channel:
        stream = await worker(channel)
        seen = []
        for _ in range(3):
            for port in (node.workers.port, node.clients.port):
                seen.append(await serial_at(port, site.trust(own)))  # noqa: PERF401  one after the other
            assert seen[-2:] == [site.serial] * 2
            await stream.beat(len(seen))
            await site.renewed()
        assert len(set(seen)) == 3
        site.server.key.write_bytes(b"")
        await site.until(lambda: site.counted("failure") == 1)
        assert await serial_at(node.workers.port, site.trust(own)) == site.serial
        await stream.beat(99)
        await stream.close()


async def test_an_authority_that_is_taken_away_opens_nothing_more(node: Node, site: Site, tmp_path: Path) -> None:
    other = open_authority(tmp_path / "other")
    own, new = site.worker("w1"), site.worker("w2", other)
    before = site.files.current
    async with connected(node, site, own) as channel:
        await (await worker(channel)).close()
    site.ca.write_bytes(other.files.certificate.read_bytes())
    await site.until(lambda: site.files.current is not before)
    async with connected(node, site, new) as channel:
        await (await worker(channel)).close()
    async with connected(node, site, own) as channel:
        with pytest.raises(ENDED):
            await worker(channel)


async def test_no_session_of_tls_is_taken_up_again(node: Node, site: Site) -> None:
    """It would be one whose certificate nobody has looked at."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for port in (node.workers.port, node.clients.port):
            context = site.trust(site.worker())
            context.set_alpn_protocols(["h2"])
            only(context, version)
            assert not await asyncio.to_thread(_taken_up, port, context)


def _taken_up(port: int, context: ssl.SSLContext) -> bool | None:
    session, taken_up = None, None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port), GUARD) as wire,
            context.wrap_socket(wire, server_hostname="localhost", session=session) as side,
        ):
            # The settings, behind which tickets would have come.
            assert side.recv(9)
            session, taken_up = side.session, side.session_reused
    return taken_up


async def test_what_is_offered_is_tls_1_2_and_1_3_with_authenticated_encryption_alone(node: Node, site: Site) -> None:
    async def agreed(port: int, version: ssl.TLSVersion, suites: str) -> tuple[str, str]:
        context = site.trust(own)
        context.set_ciphers(f"{suites}:@SECLEVEL=0")
        only(context, version)
        writer = await shown_by(port, context)
        secured: Any = writer.get_extra_info("ssl_object")
        writer.close()
        return secured.version(), secured.cipher()[0]

    own = site.worker()
    for port in (node.workers.port, node.clients.port):
        suite = "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert await agreed(port, ssl.TLSVersion.TLSv1_2, suite) == ("TLSv1.2", suite)
        version, suite = await agreed(port, ssl.TLSVersion.TLSv1_3, "ALL")
        assert version == "TLSv1.3"
        assert "GCM" in suite or "POLY1305" in suite
        for weak in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-SHA", "AES256-GCM-SHA384"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await agreed(port, ssl.TLSVersion.TLSv1_2, weak)
        for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await agreed(port, old, "ALL")
