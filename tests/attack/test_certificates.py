"""Attacks by certificate: those that TLS must not take, and those that it takes and that prove nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holon.clock import ManualClock, SystemClock
from holon.security.certificates import Authority, KeyPair, open_authority
from tests.attack.place import CODE, HEALTH, Place, a_place, opened, outcome, said_hello
from tests.integration.grpc_node import a_node, end_of, worker_files
from tests.integration.worker_certificates import certificate_of, intermediate, issue

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY_MS = 86_400_000
INVALID = (CODE.UNAUTHENTICATED, "CERTIFICATE_INVALID")


class Slept(SystemClock):
    """That of a node whose machine slept for ten days."""

    def now_ms(self) -> int:
        return super().now_ms() - 10 * DAY_MS


def by_a_worker(place: Place, folder: Path) -> KeyPair:
    """A certificate of the worker `w1`, made with the key of the worker `w2`."""
    files = place.worker_files("w2")
    key: Any = serialization.load_pem_private_key(files.key.read_bytes(), None)
    return issue(folder, Authority(files, certificate_of(files), key), "w1", above=[files.certificate])


def below_the_last(place: Place, folder: Path) -> KeyPair:
    """A certificate of an authority that was made by one which may make none."""
    between = intermediate(folder, place.authority)
    last = intermediate(folder / "between", between)
    return issue(folder, last, "w1", above=[last.files.certificate, between.files.certificate])


def of_another(place: Place, folder: Path) -> KeyPair:
    return issue(folder, open_authority(folder / "another"), "w1")


def of_a_namesake(place: Place, folder: Path) -> KeyPair:
    """A certificate of an authority that only has the right one's name."""
    key = ec.generate_private_key(ec.SECP256R1())
    return issue(folder, Authority(place.authority.files, place.authority.certificate, key), "w1")


def expired(place: Place, folder: Path) -> KeyPair:
    return issue(folder, place.authority, "w1", lasts=timedelta(minutes=-1))


def of_a_server(place: Place, folder: Path) -> KeyPair:
    return issue(folder, place.authority, "w1", uses=[ExtendedKeyUsageOID.SERVER_AUTH])


@pytest.mark.parametrize("made", [None, expired, of_another, of_a_namesake, by_a_worker, below_the_last, of_a_server])
async def test_there_is_no_handshake_without_a_good_certificate(place: Place, tmp_path: Path, made: Any) -> None:
    channel = await place.channel(place.ports.worker, made(place, tmp_path) if made else None)
    assert await outcome(channel, HEALTH) == (CODE.UNAVAILABLE, "")


def named(folder: Path, authority: Authority, *names: x509.NameAttribute[str], **more: Any) -> KeyPair:
    """A certificate with this subject, and these `extensions`."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    for extension in more.get("extensions", ()):
        builder = builder.add_extension(extension, critical=False)
    files = KeyPair(folder / "named.pem", folder / "named.key")
    certificate = builder.sign(authority.key, hashes.SHA256())
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.key.write_bytes(key.private_bytes(*form))
    return files


def cn(text: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False)


def uris(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in texts])


@pytest.mark.parametrize(
    "names",
    [
        [],
        [cn("w1"), cn("w2")],
        [cn("w1"), cn("w1")],
        [cn("w1\0.evil")],
        [cn("w1\n")],
        [cn(" w1")],
        [cn("w1,CN=w2")],
        [cn("ｗ1")],  # noqa: RUF001
        [cn("w1\u200b")],
        [cn("w*")],
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "w1")],
    ],
)
async def test_a_certificate_that_names_nobody_or_two_or_a_lookalike_proves_nothing(
    place: Place, tmp_path: Path, names: list[x509.NameAttribute[str]]
) -> None:
    channel = await place.certified(named(tmp_path, place.authority, *names))
    assert await outcome(channel, HEALTH) == INVALID
    assert await end_of(opened(channel)) == INVALID


@pytest.mark.parametrize(
    "found",
    [
        ["spiffe://example.org/a", "spiffe://example.org/b"],
        ["spiffe://example.org/a", "https://example.org/"],
        ["spiffe://example.org/a/../b"],
        ["spiffe://example.org/a%2f..%2fb"],
        ["spiffe://example.org//a"],
        ["spiffe://EXAMPLE.org/a"],
        ["spiffe://user@example.org/a"],
        ["spiffe://example.org:1/a"],
        ["spiffe://example.org/a?b"],
        ["spiffe://example.org/a#b"],
        ["spiffe:///a"],
        ["spiffe://example.org/"],
        ["SPIFFE://example.org/a"],
    ],
)
async def test_a_certificate_with_two_spiffe_ids_or_none_that_is_one_proves_nothing(
    place: Place, tmp_path: Path, found: list[str]
) -> None:
    channel = await place.certified(named(tmp_path, place.authority, cn("w1"), extensions=[uris(*found)]))
    assert await outcome(channel, HEALTH) == INVALID


async def test_names_of_hosts_and_mailboxes_in_a_certificate_make_nobody_of_them(place: Place, tmp_path: Path) -> None:
    other = x509.SubjectAlternativeName([x509.DNSName("w1"), x509.RFC822Name("w1@example.org")])
    channel = await place.certified(named(tmp_path, place.authority, cn("w2"), extensions=[other]))
    for claimed in ("w1", "w1@example.org", "w2.", "W2", "w2 "):
        refused = await end_of(await said_hello(channel, worker_id=claimed))
        assert refused == (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH"), claimed
    wire = await said_hello(channel, worker_id="w2")
    await wire.expect("welcome")


async def test_on_a_connection_that_lives_no_call_is_made_once_its_certificate_has_ended() -> None:
    clock = ManualClock(SystemClock().now_ms())
    async with a_node(clock=clock) as node:
        channel = await node.worker_channel(worker_files("w1"))
        assert (await outcome(channel, HEALTH))[0] is CODE.OK
        clock.advance(400 * 86_400_000)
        assert await outcome(channel, HEALTH) == (CODE.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")


async def test_what_a_server_shows_is_not_taken_from_a_worker_and_a_worker_is_no_server(place: Place) -> None:
    """Who has a worker's certificate cannot stand in for the node."""
    files = place.worker_files("w1")
    credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.certificate.read_bytes())])
    server = grpc.aio.server()
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        assert await outcome(await place.channel(port), HEALTH) == (CODE.UNAVAILABLE, "")
    finally:
        await server.stop(0)


async def test_a_node_whose_machine_slept_takes_a_new_certificate_and_none_that_has_ended(tmp_path: Path) -> None:
    async with a_place(tmp_path, clock=Slept()) as place:
        wire = await place.worker(issue(tmp_path, place.authority, "w1", lasts=timedelta(seconds=4)))
        assert await end_of(wire) == (CODE.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
        await (await place.worker("w2")).beat()
