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

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture
async def node(site: Site) -> AsyncIterator[Node]:
    async with a_node(tls=site.files) as it:
        yield it


async def shown_by(port: int, context: ssl.SSLContext, address: str = "127.0.0.1") -> asyncio.StreamWriter:
    context.set_alpn_protocols(["h2"])
    async with asyncio.timeout(GUARD):
        _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname="localhost")
    return writer


async def serial_at(port: int, context: ssl.SSLContext, address: str = "127.0.0.1") -> str:
    writer = await shown_by(port, context, address)
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
        await site.until(lambda: site.counted("refused") == 1)
        assert await serial_at(node.workers.port, site.trust(own)) == site.serial
        await stream.beat(99)
        await stream.close()


async def test_every_address_of_a_name_shows_the_new_certificate(site: Site) -> None:
    async with a_node(tls=site.files, host="localhost") as node:
        for _ in range(2):
            for *_, (address, *_) in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
                assert await serial_at(node.workers.port, site.trust(site.worker()), str(address)) == site.serial
            await site.renewed()


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


async def test_who_takes_up_a_session_of_before_an_authority_was_taken_away_does_not_get_in(
    node: Node, site: Site, tmp_path: Path
) -> None:
    before = site.files.current
    contexts = [site.trust(site.worker()) for _ in VERSIONS]
    sessions = []
    for context, version in zip(contexts, VERSIONS, strict=True):
        context.set_alpn_protocols(["h2"])
        only(context, version)
        sessions.append(await asyncio.to_thread(_session, node.workers.port, context, None))
    site.ca.write_bytes(open_authority(tmp_path / "other").files.certificate.read_bytes())
    await site.until(lambda: site.files.current is not before)
    for context, session in zip(contexts, sessions, strict=True):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(_session, node.workers.port, context, session)


def _session(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Connect, with a session of before; the session of now."""
    with (
        socket.create_connection(("127.0.0.1", port), GUARD) as wire,
        context.wrap_socket(wire, server_hostname="localhost", session=session) as side,
    ):
        # The settings of HTTP/2, behind which tickets have come.
        if not side.recv(9):
            raise ConnectionResetError
        return side.session


async def test_grpc_gets_another_configuration_only_when_there_is_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who shakes hands by the thousand brings the process down: the old one goes while another thread uses it."""
    made = 0
    make = grpc.ssl_server_certificate_configuration

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal made
        made += 1
        return make(*arguments, **more)

    monkeypatch.setattr(grpc, "ssl_server_certificate_configuration", counted)
    async with a_node(tls=site.files) as node:
        for changes in range(3):
            for port in (node.workers.port, node.clients.port):
                shown = await asyncio.gather(*(serial_at(port, site.trust(site.worker())) for _ in range(5)))
                assert set(shown) == {site.serial}
            assert made == 2 * (changes + 1)
            await site.renewed()


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
