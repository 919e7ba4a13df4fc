"""The HTTP door over TLS: what it speaks, whom it lets in, what it bounds, and how its certificate is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop

from holon.clock import ManualClock, SystemClock
from holon.errors import ConfigError
from holon.security import certificates
from holon.security.certificates import open_authority
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles
from holon.transports.http import secured
from holon.transports.http.door import HttpSettings
from tests.audit_lines import audited
from tests.integration.http_node import GUARD, LIMIT, Node, running, until
from tests.integration.http_wire import answers
from tests.integration.https_calls import CREATE, LARGE, LAST, STATUS, ask, at_once, dial, once_more, serves, speaks
from tests.integration.tls_site import Site, only, serial_of
from tests.integration.worker_certificates import certificate_of, intermediate, issue, revoke, root

SECURED = HttpSettings(port=0, max_body=LIMIT)


@pytest.fixture
async def node(site: Site) -> AsyncIterator[Node]:
    async with running(SECURED, tls=site.files) as it:
        yield it


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_serves_over_tls_whatever_comes_with_the_handshake(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def story() -> None:
        async with Site.followed(tmp_path) as site, running(SECURED, tls=site.files) as node:
            text = json.dumps({"initial_data": {"note": "x" * 80_000}}).encode()
            for sent, status in ((LAST, 200), (CREATE + b"Content-Length: %d\r\n\r\n" % len(text) + text, 202)):
                reader, writer = await dial(node, site.trust())
                assert (await ask(reader, writer, sent)).startswith(b"HTTP/1.1 %d " % status)
                writer.close()
            for _ in range(30):
                got = await asyncio.to_thread(at_once, node.door.port, site.trust())
                assert got.startswith(b"HTTP/1.1 200 ")
            await until(node, "connections=0 requests=0 handshakes=0")

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(story())


async def test_refusals_come_over_tls_as_they_do_without(node: Node, site: Site) -> None:
    async def refused(sent: bytes) -> tuple[int, str | None, str]:
        reader, writer = await dial(node, site.trust())
        writer.write(sent)
        (answer,) = answers(await asyncio.wait_for(reader.read(), GUARD))
        writer.close()
        return answer.status, answer.code, answer.headers["connection"]

    too_large = CREATE + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1)
    garbage, large = await asyncio.gather(refused(b"hello\r\n\r\n"), refused(too_large))
    assert garbage == (400, "MALFORMED_REQUEST", "close")
    assert large == (413, "PAYLOAD_TOO_LARGE", "close")


def test_what_is_offered_is_tls_1_2_and_1_3_with_authenticated_encryption_alone(tmp_path: Path) -> None:
    site = Site(tmp_path)
    weak = ["AES128-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES256-GCM-SHA384", "NULL", "PSK"]
    strong = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]

    async def story() -> None:
        async with running(SECURED, tls=site.files) as node:
            for suite in strong:
                assert await speaks(node, site, ssl.TLSVersion.TLSv1_2, suite) == ("TLSv1.2", suite)
            version, suite = await speaks(node, site, ssl.TLSVersion.TLSv1_3, "ALL")
            assert version == "TLSv1.3"
            assert "GCM" in suite or "POLY1305" in suite
            for suite in weak:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await speaks(node, site, ssl.TLSVersion.TLSv1_2, suite)
            for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await speaks(node, site, old, "ALL")

    asyncio.run(story())


async def test_a_handshake_that_does_not_come_to_its_end_is_given_up(site: Site) -> None:
    settings = HttpSettings(port=0, handshake=0.1)
    async with running(settings, tls=site.files) as node:
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
            writer.write(sent)
            try:
                # An alert of TLS at most.
                assert len(await asyncio.wait_for(reader.read(), GUARD)) < 20
            except ConnectionError:
                pass
            writer.close()
        await until(node, "connections=0 requests=0 handshakes=0")
    assert SECURED.handshake == 5.0


async def test_handshakes_count_as_connections_and_one_too_many_is_closed(site: Site) -> None:
    async with running(HttpSettings(port=0, connections=4), tls=site.files) as node:
        _, silent = await asyncio.open_connection("127.0.0.1", node.door.port)
        await until(node, "handshakes=1")
        reader, writer = await dial(node, site.trust())
        await until(node, "connections=1 requests=0 handshakes=1")
        for _ in range(3):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await dial(node, site.trust())
        assert b'"ok"' in await ask(reader, writer, STATUS)
        silent.close()
        await until(node, "handshakes=0")
        _, other = await dial(node, site.trust())
        for one in (writer, other):
            one.close()


async def test_a_door_that_closes_ends_the_handshakes_under_way(site: Site) -> None:
    async with running(SECURED, tls=site.files) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        await until(node, "handshakes=1")
    try:
        assert await asyncio.wait_for(reader.read(), GUARD) == b""
    except ConnectionError:
        pass
    writer.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "http-handshake"]


async def test_a_new_certificate_is_shown_from_the_next_handshake_on_and_nobody_is_dropped(
    node: Node, site: Site
) -> None:
    reader, writer = await dial(node, site.trust())
    shown = [serial_of(writer)]
    for _ in range(2):
        assert b'"ok"' in await ask(reader, writer, STATUS)
        await site.renewed()
        assert b'"ok"' in await ask(reader, writer, STATUS)
        _, other = await dial(node, site.trust())
        shown.append(serial_of(other))
        assert shown[-1] == site.serial
        other.close()
    assert len(set(shown)) == 3
    site.server.certificate.write_bytes(b"junk")
    await site.until(lambda: site.counted("refused") == 1)
    _, other = await dial(node, site.trust())
    assert serial_of(other) == shown[-1]
    for one in (writer, other):
        one.close()


async def test_who_must_have_a_certificate_needs_one_of_the_authorities_of_now(site: Site, tmp_path: Path) -> None:
    stranger = open_authority(tmp_path / "stranger")
    own, foreign = site.worker("c1"), site.worker("c2", stranger)
    async with running(HttpSettings(port=0, client_certificates=True), tls=site.files) as node:
        assert await serves(node, site.trust(own))
        assert not await serves(node, site.trust())
        assert not await serves(node, site.trust(foreign))
        assert not await serves(node, site.trust(site.server))
        before = site.files.current
        site.ca.write_bytes(stranger.files.certificate.read_bytes())
        await site.until(lambda: site.files.current is not before)
        assert not await serves(node, site.trust(own))
        assert await serves(node, site.trust(foreign))
        await until(node, "connections=0 requests=0 handshakes=0")


async def test_a_certificate_that_is_trusted_no_longer_is_out_at_once_on_a_connection_that_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    lists = tmp_path / "lists"
    lists.mkdir()
    revoke(lists / "ours.pem", root(tmp_path / "authority"))
    async with Site.followed(tmp_path, str(lists)) as site:
        between = intermediate(tmp_path, site.authority)
        clients = {
            "listed": site.worker("c1"),
            "its authority listed": issue(tmp_path, between, "c2", above=[between.files.certificate]),
            "its authority gone": site.worker("c3"),
        }
        # Nothing else ends an idle connection meanwhile.
        settings = HttpSettings(port=0, client_certificates=True, silence=3600, keep_alive=3600)
        async with running(settings, tls=site.files) as node:
            for what, own in clients.items():
                reader, writer = await dial(node, site.trust(own))
                assert b'"ok"' in await ask(reader, writer, STATUS)
                if what == "its authority gone":
                    (lists / "ours.pem").unlink()
                    other = open_authority(tmp_path / "other")
                    revoke(lists / "other.pem", other)
                    site.ca.write_bytes(other.files.certificate.read_bytes())
                else:
                    revoked = own if what == "listed" else between.files
                    revoke(lists / "ours.pem", site.authority, revoked, age=timedelta(minutes=1))
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), GUARD) == b"", what
                writer.close()
                assert not await serves(node, site.trust(own)), what
                if what == "listed":
                    assert await serves(node, site.trust(clients["its authority gone"]))
    told = audited(caplog)
    refused = [one for one in told if one["act"] == "call_refused"]
    # When that became so, and again when it came back; who has no authority at all is refused in the handshake then.
    assert [one["result"] for one in refused] == ["REVOKED"] * 4 + ["CERTIFICATE_UNTRUSTED"]
    serial = f"{certificate_of(clients['listed']).serial_number:x}"
    assert (refused[0]["via"], refused[0]["on"]) == ("http", f"certificate {serial}")
    assert refused[0]["peer"].startswith("127.0.0.1:")


@pytest.mark.parametrize("strict", [True, False])
async def test_once_a_list_has_expired_its_authoritys_clients_are_refused_or_kept(tmp_path: Path, strict: bool) -> None:
    site = Site(tmp_path)
    own = site.worker("c1")
    lists = revoke(tmp_path / "crl.pem", site.authority, lasts=timedelta(seconds=-1))
    paths = TlsPaths(str(site.server.certificate), str(site.server.key), str(site.ca), lists=str(lists), strict=strict)
    tls = TlsFiles(paths, SystemClock())
    async with running(HttpSettings(port=0, client_certificates=True), tls=tls) as node:
        assert await serves(node, site.trust(own)) is not strict


async def test_a_connection_ends_when_the_certificate_does_that_opened_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A day, and all of it but the last one and a half seconds over.
    monkeypatch.setattr(certificates, "_BACKDATE", timedelta(days=2))
    monkeypatch.setattr(certificates, "timedelta", lambda days: timedelta(days=days - 1, seconds=1.5))
    short = site.worker("short", days=1)
    async with running(HttpSettings(port=0, client_certificates=True), tls=site.files) as node:
        old = site.trust(short)
        only(old, ssl.TLSVersion.TLSv1_2)
        session, taken_up = await asyncio.to_thread(once_more, node.door.port, old, None)
        assert not taken_up
        reader, writer = await dial(node, site.trust(short))
        assert b'"ok"' in await ask(reader, writer, STATUS)
        assert await asyncio.wait_for(reader.read(), GUARD) == b""
        writer.close()
        assert not await serves(node, site.trust(short))
        # Who takes up a session of before is looked at as well.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(once_more, node.door.port, old, session)


async def test_a_connection_ends_where_the_clock_is_set_past_the_end_of_its_certificate(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secured, "_LOOK_SECONDS", 0.02)
    clock = ManualClock(SystemClock().now_ms())
    async with running(HttpSettings(port=0, client_certificates=True), tls=site.files, clock=clock) as node:
        reader, writer = await dial(node, site.trust(site.worker(days=1)))
        assert b'"ok"' in await ask(reader, writer, STATUS)
        clock.advance(2 * 86_400_000)
        # Sooner than one that says nothing.
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_an_answer_over_tls_that_nobody_reads_is_not_kept_for_ever(site: Site) -> None:
    async with running(HttpSettings(port=0, silence=0.2), tls=site.files) as node:
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
        wire.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(wire, ("127.0.0.1", node.door.port))
        reader, writer = await asyncio.open_connection(
            sock=wire, ssl=site.trust(), server_hostname="localhost", limit=1024
        )
        writer.write(LARGE * 20)
        await until(node, "connections=1 requests=1")
        await until(node, "connections=0 requests=0")
        writer.transport.abort()
        del reader
        reader, writer = await dial(node, site.trust())
        assert b'"ok"' in await ask(reader, writer, STATUS)
        writer.close()


async def test_plaintext_off_loopback_is_refused_unless_a_proxy_is_said_to_end_tls(site: Site) -> None:
    with pytest.raises(ConfigError, match="API_HOST"):
        async with running(HttpSettings(host="0.0.0.0", port=0)):
            pass
    async with running(HttpSettings(host="0.0.0.0", port=0, behind_proxy=True)):
        pass
    async with running(HttpSettings(host="0.0.0.0", port=0), tls=site.files) as node:
        _, writer = await dial(node, site.trust())
        writer.close()
