"""Development certificates and the server's TLS files: what is written can be used, what cannot be is named."""

from __future__ import annotations

import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from holon.errors import ConfigError, InvalidArgument
from holon.files import write_atomically
from holon.security import certificates
from holon.security.certificates import Authority, KeyPair
from holon.security.tls import TlsPaths, check_parent_files, load_server_credentials
from tests.strangers import owned_by_another

DAY_MS = 86_400_000


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return certificates.open_authority(tmp_path / "certs")


def now_ms(pair: KeyPair) -> int:
    """A moment at which the pair has just become valid."""
    start = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_before_utc
    return int(start.timestamp() * 1000) + 1000


def paths(server: KeyPair, authority: Authority) -> TlsPaths:
    return TlsPaths(str(server.certificate), str(server.key), str(authority.files.certificate))


def handshake(server: KeyPair, worker: KeyPair, trusted: Path, host: str) -> dict[str, object]:
    """One mutual TLS handshake in memory; returns what the server sees of the worker."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted)
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.verify_flags |= ssl.VERIFY_X509_STRICT
    serving.load_cert_chain(server.certificate, server.key)
    calling = ssl.create_default_context(cafile=trusted)
    calling.verify_flags |= ssl.VERIFY_X509_STRICT
    calling.load_cert_chain(worker.certificate, worker.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = calling.wrap_bio(to_client, to_server, server_hostname=host)
    there = serving.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (here, there):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return dict(there.getpeercert() or {})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "node.example", "10.1.2.3"])
def test_server_and_worker_certificates_trust_each_other(authority: Authority, tmp_path: Path, host: str) -> None:
    server = certificates.issue_server(authority, tmp_path, ["node.example", "10.1.2.3"])
    worker = certificates.issue_worker(authority, tmp_path, "w1")
    seen = handshake(server, worker, authority.files.certificate, host)
    assert seen["subject"] == ((("commonName", "w1"),),)


def test_certificates_of_another_authority_are_not_trusted(authority: Authority, tmp_path: Path) -> None:
    other = certificates.open_authority(tmp_path / "other")
    server = certificates.issue_server(authority, tmp_path)
    foreign = certificates.issue_worker(other, tmp_path, "w1")
    with pytest.raises(ssl.SSLError):
        handshake(server, foreign, authority.files.certificate, "localhost")


def test_keys_are_for_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    pairs = [authority.files, certificates.issue_server(authority, tmp_path)]
    pairs.append(certificates.issue_worker(authority, tmp_path, "w1"))
    assert [stat.S_IMODE(pair.key.stat().st_mode) for pair in pairs] == [0o600] * 3
    assert [stat.S_IMODE(pair.certificate.stat().st_mode) for pair in pairs] == [0o644] * 3


def test_the_authority_is_made_once_and_kept(authority: Authority) -> None:
    again = certificates.open_authority(authority.files.certificate.parent)
    assert again.certificate == authority.certificate


def test_an_authority_that_lost_a_file_or_has_another_s_is_refused(authority: Authority, tmp_path: Path) -> None:
    folder = authority.files.key.parent
    other = certificates.open_authority(tmp_path / "other")
    authority.files.key.write_bytes(other.files.key.read_bytes())
    with pytest.raises(ConfigError, match=r"ca\.key is not the key of ca\.pem"):
        certificates.open_authority(folder)
    authority.files.key.unlink()
    with pytest.raises(ConfigError, match="cannot be used"):
        certificates.open_authority(folder)
    assert not authority.files.key.exists()


def test_an_authority_whose_key_others_can_read_is_not_signed_with(authority: Authority) -> None:
    authority.files.key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        certificates.open_authority(authority.files.key.parent)


def test_worker_ids_give_separate_files_inside_the_folder(authority: Authority, tmp_path: Path) -> None:
    ids = ["a/b", "a:b", "a_b", "..", "../x", "server", "ca", "."]
    pairs = [certificates.issue_worker(authority, tmp_path, worker_id) for worker_id in ids]
    assert len({pair.key for pair in pairs}) == len(ids)
    assert {pair.key.parent for pair in pairs} == {tmp_path}
    assert all(pair.key.is_file() for pair in pairs)


def test_the_pages_name_the_files_that_are_made(authority: Authority, tmp_path: Path) -> None:
    for page, worker_id in (("foreign-clients.md", "js-1"), ("holons.md", "child-1")):
        text = (Path(__file__).parents[2] / "docs" / page).read_text()
        assert f"holon certs issue {worker_id}" in text
        assert f"certs/{certificates.issue_worker(authority, tmp_path, worker_id).certificate.name}" in text


@pytest.mark.parametrize("worker_id", ["", "a b", "w\0", "a" * 65, "ö"])
def test_a_worker_id_that_no_certificate_can_carry_is_refused(
    authority: Authority, tmp_path: Path, worker_id: str
) -> None:
    with pytest.raises(InvalidArgument, match="1 to 64"):
        certificates.issue_worker(authority, tmp_path, worker_id)


@pytest.mark.parametrize("host", ["", "http://x", "x y", "x:80", "münchen"])
def test_a_host_that_is_neither_name_nor_address_is_refused(authority: Authority, tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a host name or an address"):
        certificates.issue_server(authority, tmp_path, [host])


@pytest.mark.parametrize("days", [0, -1, 10_000])
def test_a_validity_out_of_bounds_is_refused(authority: Authority, tmp_path: Path, days: int) -> None:
    with pytest.raises(InvalidArgument, match="days"):
        certificates.issue_worker(authority, tmp_path, "w1", days=days)


def test_a_folder_that_cannot_be_written_is_said(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="use a folder that you may write to"):
        certificates.issue_server(authority, tmp_path / "file")


def test_what_a_certificate_says_can_be_shown(authority: Authority, tmp_path: Path) -> None:
    (server,) = certificates.describe(certificates.issue_server(authority, tmp_path, ["node.example"]).certificate)
    assert server.names == ("DNS:localhost", "IP:127.0.0.1", "IP:::1", "DNS:node.example")
    assert (server.uses, server.is_authority) == (("serverAuth",), False)
    (worker,) = certificates.describe(certificates.issue_worker(authority, tmp_path, "w1", days=3).certificate)
    assert (worker.subject, worker.names, worker.uses) == ("CN=w1", (), ("clientAuth",))
    assert 3 <= (worker.not_after - worker.not_before).total_seconds() / 86_400 < 3.1
    (own,) = certificates.describe(authority.files.certificate)
    assert own.is_authority
    assert own.subject == server.issuer == worker.issuer


@pytest.mark.parametrize("name", ["missing.pem", "ca.key"])
def test_a_file_without_a_certificate_cannot_be_shown(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        certificates.describe(authority.files.key.with_name(name))


def test_an_atomic_write_replaces_whole_files_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    write_atomically(target, b"old")
    write_atomically(target, b"new", mode=0o640)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "secret"]


def test_server_files_that_belong_together_load_as_one_snapshot(authority: Authority, tmp_path: Path) -> None:
    server = certificates.issue_server(authority, tmp_path)
    loaded = load_server_credentials(paths(server, authority), now_ms(server))
    assert loaded.chain == server.certificate.read_bytes()
    assert loaded.key == server.key.read_bytes()
    assert loaded.authorities == authority.files.certificate.read_bytes()
    assert loaded.expires_at_ms > now_ms(server)
    assert b"PRIVATE" not in repr(loaded).encode()


def test_every_fault_of_the_server_files_is_named_at_once(authority: Authority, tmp_path: Path) -> None:
    server = certificates.issue_server(authority, tmp_path)
    swapped = TlsPaths(str(server.certificate), str(authority.files.key), str(server.certificate))
    with pytest.raises(ConfigError) as caught:
        load_server_credentials(swapped, now_ms(server))
    found = {violation.field: violation.reason for violation in caught.value.details}
    assert "is not the key of" in found["TLS_KEY_PATH"]
    assert "is not an authority" in found["TLS_CA_PATH"]
    with pytest.raises(ConfigError) as caught:
        load_server_credentials(TlsPaths("/no/cert", "/no/key", str(server.key)), now_ms(server))
    assert [violation.field for violation in caught.value.details] == ["TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH"]


@pytest.mark.parametrize(("days", "word"), [(500, "expired"), (-1, "not valid before")])
def test_a_server_certificate_out_of_its_dates_is_refused(
    authority: Authority, tmp_path: Path, days: int, word: str
) -> None:
    server = certificates.issue_server(authority, tmp_path)
    with pytest.raises(ConfigError, match=word):
        load_server_credentials(paths(server, authority), now_ms(server) + days * DAY_MS)


def written(authority: Authority, folder: Path, *extensions: x509.ExtensionType) -> KeyPair:
    """A certificate of the authority with these extensions and no others of its use or names."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(certificates._name("localhost"))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = certificates._sign(builder, authority.certificate.subject, key, authority.key, 9)
    pair = KeyPair(folder / "own.pem", folder / "own.key")
    certificates._write_pair(pair, certificate, key)
    return pair


LOCALHOST = x509.SubjectAlternativeName([x509.DNSName("localhost")])
FOR_CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
FOR_ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])


@pytest.mark.parametrize(
    ("extensions", "says"),
    [
        ((LOCALHOST, FOR_CLIENTS), "own.pem is not for servers; issue one with the extended key usage serverAuth"),
        ((), "own.pem has no subject alternative name"),
    ],
)
def test_a_certificate_that_callers_would_not_take_for_a_servers_is_refused(
    authority: Authority, tmp_path: Path, extensions: tuple[x509.ExtensionType, ...], says: str
) -> None:
    own = written(authority, tmp_path, *extensions)
    with pytest.raises(ConfigError, match=says) as caught:
        load_server_credentials(paths(own, authority), now_ms(own))
    assert [violation.field for violation in caught.value.details] == ["TLS_CERT_PATH"]


@pytest.mark.parametrize("extensions", [(LOCALHOST,), (LOCALHOST, FOR_ANY)])
def test_one_that_states_no_use_or_every_use_serves(
    authority: Authority, tmp_path: Path, extensions: tuple[x509.ExtensionType, ...]
) -> None:
    own = written(authority, tmp_path, *extensions)
    load_server_credentials(paths(own, authority), now_ms(own))


def test_what_the_parent_is_shown_is_checked_as_a_clients(authority: Authority, tmp_path: Path) -> None:
    child, other = (certificates.issue_worker(authority, tmp_path, name) for name in ("child", "other"))
    server = certificates.issue_server(authority, tmp_path)
    ca, now = str(authority.files.certificate), now_ms(other)
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    good = TlsPaths(str(child.certificate), str(child.key), ca)
    for sound in (good, replace(good, authorities=""), TlsPaths("", "", ca), TlsPaths("", "", "")):
        check_parent_files(sound, now)

    def wrong(paths: TlsPaths, now: int = now) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            check_parent_files(paths, now)
        return {violation.field: violation.reason for violation in caught.value.details}

    assert "other.key is not the key of" in wrong(replace(good, key=str(other.key)))["PARENT_TLS_KEY_PATH"]
    unread = f"{junk} has no readable certificate (PEM)"
    found = wrong(replace(good, certificate=str(junk), authorities=str(junk)))
    assert found == {"PARENT_TLS_CERT_PATH": unread, "PARENT_TLS_CA_PATH": unread}
    assert "expired" in wrong(replace(good, authorities=""), now + 500 * DAY_MS)["PARENT_TLS_CERT_PATH"]
    assert "is not an authority" in wrong(replace(good, authorities=str(child.certificate)))["PARENT_TLS_CA_PATH"]
    servers = wrong(TlsPaths(str(server.certificate), str(server.key), ca))
    assert "is not for clients" in servers["PARENT_TLS_CERT_PATH"]


def test_a_parents_server_may_be_trusted_by_a_certificate_that_it_signed_itself(
    authority: Authority, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder().subject_name(certificates._name("root")).add_extension(LOCALHOST, critical=False)
    )
    pair = KeyPair(tmp_path / "root.pem", tmp_path / "root.key")
    certificates._write_pair(pair, certificates._sign(builder, certificates._name("root"), key, key, 9), key)
    check_parent_files(TlsPaths("", "", str(pair.certificate)), now_ms(pair))


def test_an_authority_that_another_user_may_have_planted_is_refused_and_one_that_is_made_is_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.resolve() / "certs"
    certificates.open_authority(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path, mode in ((folder, 0o777), (folder, 0o1777), (folder / "ca.pem", 0o646)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(ConfigError, match=str(path)):
            certificates.open_authority(folder)
        path.chmod(before)
    for path in (folder, folder / "ca.pem"):
        with monkeypatch.context() as patched:
            owned_by_another(patched, path)
            with pytest.raises(ConfigError, match=f"{path} belongs to another user"):
                certificates.open_authority(folder)
    certificates.open_authority(folder)
