"""The TLS files as they change: what can serve is served, what cannot changes nothing and is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from holon.clock import ManualClock, SystemClock
from holon.engine.reloading import Reloading
from holon.errors import ConfigError
from holon.node.admitting import tls_part
from holon.node.following import Following
from holon.security import certificates
from holon.security.certificates import KeyPair, issue_server, issue_worker, open_authority
from holon.security.endings import OwnCertificate
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles
from tests.integration.tls_site import Site
from tests.integration.worker_certificates import weak_authority

DAY_MS = 86_400_000


async def test_a_new_pair_is_taken_and_counted_and_the_next_one_too(tmp_path: Path) -> None:
    async with Site.followed(tmp_path) as site:
        serials = [site.serial, await site.renewed(), await site.renewed()]
    assert len(set(serials)) == 3
    assert site.files.current.chain == site.server.certificate.read_bytes()
    assert site.files.current.key == site.server.key.read_bytes()
    assert (site.counted("done"), site.counted("refused")) == (2, 0)


def _empty(site: Site) -> None:
    site.server.certificate.write_bytes(b"")


def _half(site: Site) -> None:
    whole = site.server.certificate.read_bytes()
    site.server.certificate.write_bytes(whole[: len(whole) // 2])


def _gone(site: Site) -> None:
    site.server.key.unlink()


def _of_another_key(site: Site) -> None:
    other = issue_server(site.authority, site.folder / "other")
    site.server.key.write_bytes(other.key.read_bytes())


def _open_key(site: Site) -> None:
    site.server.key.chmod(0o644)


def _no_authority(site: Site) -> None:
    site.ca.write_bytes(b"")


def _authority_that_is_none(site: Site) -> None:
    site.ca.write_bytes(issue_worker(site.authority, site.folder, "w9").certificate.read_bytes())


@pytest.mark.parametrize(
    "spoil", [_empty, _half, _gone, _of_another_key, _open_key, _no_authority, _authority_that_is_none]
)
async def test_files_that_cannot_serve_change_nothing_and_are_logged_and_counted_once(
    tmp_path: Path, spoil: Callable[[Site], None], caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    before = site.files.current
    spoil(site)
    for _ in range(7):
        await site.following.look()
    assert site.files.current is before
    assert (site.counted("done"), site.counted("refused")) == (0, 1)
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(site.folder) in told.getMessage()
    assert "PRIVATE" not in caplog.text
    site.ca.write_bytes(site.authority.files.certificate.read_bytes())
    renewed = issue_server(site.authority, site.folder)
    for _ in range(2):
        await site.following.look()
    assert site.files.current.key == renewed.key.read_bytes()
    assert site.counted("done") == 1


async def test_a_pair_that_is_replaced_in_two_steps_is_taken_without_a_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    other = issue_server(site.authority, tmp_path / "other")
    await site.following.look()
    site.server.certificate.write_bytes(other.certificate.read_bytes())
    await site.following.look()
    site.server.key.write_bytes(other.key.read_bytes())
    for _ in range(3):
        await site.following.look()
    assert site.files.current.key == other.key.read_bytes()
    assert (site.counted("done"), site.counted("refused")) == (1, 0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_files_that_come_by_a_link_which_leads_elsewhere_are_taken(tmp_path: Path) -> None:
    """As Kubernetes replaces what it has mounted."""
    authority = open_authority(tmp_path / "authority")
    folders = [tmp_path / "one", tmp_path / "two"]
    pairs = [issue_server(authority, folder) for folder in folders]
    for pair in pairs:
        pair.key.chmod(0o440)
    data = tmp_path / "data"
    data.symlink_to(folders[0])
    for name in ("server.pem", "server.key"):
        (tmp_path / name).symlink_to(data / name)
    paths = TlsPaths(str(tmp_path / "server.pem"), str(tmp_path / "server.key"), str(authority.files.certificate))
    now = ManualClock(_now_ms())
    with pytest.raises(ConfigError, match="is a link"):
        TlsFiles(paths, now)
    files = TlsFiles(replace(paths, mounted=True), now)
    (tmp_path / "next").symlink_to(folders[1])
    (tmp_path / "next").replace(data)
    files.use(files.read())
    assert files.current.chain == pairs[1].certificate.read_bytes()


async def test_a_certificate_that_begins_later_is_told_of_once_and_taken_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority = open_authority(tmp_path)
    pair = issue_server(authority, tmp_path)
    monkeypatch.setattr(certificates, "_BACKDATE", -timedelta(minutes=10))
    later = issue_server(authority, tmp_path / "later")
    clock = ManualClock(_now_ms())
    files = TlsFiles(_paths(pair, authority.files), clock)
    before = files.current
    reloading = Reloading([tls_part(files)])
    following = Following(reloading, again=0)
    for old, new in ((pair.certificate, later.certificate), (pair.key, later.key)):
        old.write_bytes(new.read_bytes())
    for _ in range(4):
        await following.look()
    assert files.current is before
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    clock.advance(660_000)
    await following.look()
    assert reloading.metrics.reloads.values == {("refused",): 1, ("done",): 1}
    assert files.current.chain == later.certificate.read_bytes()


def test_a_certificate_is_spoken_of_30_7_and_1_days_before_its_end_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = open_authority(tmp_path)
    pair = issue_server(authority, tmp_path, days=100)
    clock = ManualClock(_now_ms())
    files = TlsFiles(_paths(pair, authority.files), clock)
    said: list[tuple[int, int]] = []
    for day in range(102):
        caplog.clear()
        for _ in range(3):
            files.speak_of_ends()
        said += [(100 - day, record.levelno) for record in caplog.records]
        clock.advance(DAY_MS)
    assert said == [(30, logging.WARNING), (7, logging.WARNING), (1, logging.WARNING), (0, logging.ERROR)]


@pytest.mark.parametrize(("hours", "says"), [(30, "UTC, in 1.2 days"), (6, "UTC, in 6.0 hours")])
def test_what_is_said_of_it_is_how_long_it_lasts_also_on_its_last_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hours: int, says: str
) -> None:
    authority, clock = open_authority(tmp_path), ManualClock(_now_ms())
    files = TlsFiles(_paths(issue_server(authority, tmp_path, days=2), authority.files), clock)
    clock.advance(files.current.expires_at_ms - clock.now_ms() - hours * 3_600_000)
    files.speak_of_ends()
    [said] = [record.message for record in caplog.records]
    assert says in said


async def test_what_a_parent_is_shown_is_spoken_of_too_and_so_is_the_one_that_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, clock = open_authority(tmp_path), ManualClock(_now_ms())
    pair = issue_worker(authority, tmp_path, "child", days=8)
    shown = OwnCertificate(str(pair.certificate), clock)
    said: list[tuple[int, int]] = []
    for day in range(10):
        caplog.clear()
        for _ in range(2):
            await shown.look()
        said += [(8 - day, record.levelno) for record in caplog.records]
        clock.advance(DAY_MS)
    assert said == [(8, logging.WARNING), (7, logging.WARNING), (1, logging.WARNING), (0, logging.ERROR)]
    issue_worker(authority, tmp_path, "child", days=400)
    caplog.clear()
    await shown.look()
    assert shown.expires_at_ms is not None
    assert round((shown.expires_at_ms - _now_ms()) / DAY_MS) == 400
    assert not caplog.records
    pair.certificate.unlink()
    await shown.look()
    assert shown.expires_at_ms is None


@pytest.mark.parametrize("kind", ["P-521", "Ed25519", "RSA-1024"])
def test_a_key_that_not_every_door_can_serve_is_refused(tmp_path: Path, kind: str) -> None:
    makers: dict[str, Callable[[], Any]] = {
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    }
    key = makers[kind]()
    authority = open_authority(tmp_path)
    builder = certificates._leaf("localhost", ExtendedKeyUsageOID.SERVER_AUTH)
    certificate = certificates._sign(builder, authority.certificate.subject, key, authority.key, 9)
    pair = KeyPair(tmp_path / "server.pem", tmp_path / "server.key")
    certificates._write_pair(pair, certificate, key)
    with pytest.raises(ConfigError, match="P-256"):
        TlsFiles(_paths(pair, authority.files), ManualClock(_now_ms()))


@pytest.mark.parametrize("where", ["TLS_CA_PATH", "TLS_CERT_PATH"])
def test_an_authority_with_a_weak_key_is_refused_also_beside_a_good_one(tmp_path: Path, where: str) -> None:
    authority = open_authority(tmp_path)
    pair, files = issue_server(authority, tmp_path), authority.files
    weak = weak_authority()[0].public_bytes(Encoding.PEM)
    changed = files.certificate if where == "TLS_CA_PATH" else pair.certificate
    changed.write_bytes(changed.read_bytes() + weak)
    with pytest.raises(ConfigError) as caught:
        TlsFiles(_paths(pair, files), ManualClock(_now_ms()))
    [wrong] = caught.value.details
    assert wrong.field == where
    assert "CN=weak has an RSA key of 1024 bits; issue one with RSA of 2048 bits or more" in wrong.reason


@pytest.mark.parametrize("name", ["certificate", "key", "authorities"])
def test_a_file_of_something_else_is_named_with_its_variable(tmp_path: Path, name: str) -> None:
    authority = open_authority(tmp_path)
    garbage = tmp_path / "garbage"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    garbage.chmod(0o600)
    spoilt: Any = {name: str(garbage)}
    paths = replace(_paths(issue_server(authority, tmp_path), authority.files), **spoilt)
    with pytest.raises(ConfigError) as caught:
        TlsFiles(paths, ManualClock(_now_ms()))
    variables = {"certificate": "TLS_CERT_PATH", "key": "TLS_KEY_PATH", "authorities": "TLS_CA_PATH"}
    [wrong] = caught.value.details
    assert (wrong.field, str(garbage) in wrong.reason) == (variables[name], True)


def _paths(pair: KeyPair, authority: KeyPair) -> TlsPaths:
    return TlsPaths(str(pair.certificate), str(pair.key), str(authority.certificate))


def _now_ms() -> int:
    return SystemClock().now_ms()
