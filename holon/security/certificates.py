"""Development certificates: an authority of one's own, what it issues to server and workers, and what one says."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holon.errors import ConfigError, InvalidArgument
from holon.files import make_folder, read_private, read_public, trust_problem, write_atomically
from holon.security.identity import UNREADABLE, certificates_in, is_identity

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 397
_COMMON_NAME_MAX = 64
_USES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}
_NAME_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "email",
}
# Clocks differ by a little, and a certificate that its user cannot use yet is no help.
_BACKDATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a certificate and its private key (mode 0600) are, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A development authority: its files, and what it signs with."""

    files: KeyPair
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.files.certificate})"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What one certificate says, as text for people and programs.

    Attributes:
        fingerprint: SHA-256 of the certificate, in hexadecimal.
        names: the subject alternative names, as `DNS:localhost`, `IP:127.0.0.1`, `URI:...`.
        uses: the extended key usages, such as `clientAuth`.
    """

    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    is_authority: bool
    names: tuple[str, ...]
    uses: tuple[str, ...]


def open_authority(folder: Path, *, make: bool = True, mounted: bool = False) -> Authority:
    """Return the authority kept in `folder` as `ca.pem` and `ca.key`; make it, and the folder, when there is none.

    Blocks for reads and writes.

    Arguments:
        make: whether one is made; else it must be there.
        mounted: as of `trust_problem`.
    Raises:
        ConfigError: one of the files is missing, unreadable, of the other's, or expired, there is none and none is to
            be made, or another user could have made or changed them; the message says what to do.
    """
    files = KeyPair(folder / "ca.pem", folder / "ca.key")
    for path in (folder, files.certificate):
        if problem := trust_problem(str(path), mounted=mounted):
            raise ConfigError(problem)
    try:
        is_there = files.certificate.exists() or files.key.exists()
    except OSError as error:
        what = f"{folder} cannot be read: {error.strerror}"
        raise ConfigError(f"{what}; use a folder that you may read") from error
    if not is_there:
        if not make:
            raise ConfigError(f"{folder} has no authority; run `holon certs dev` first, or name the folder with --dir")
        return _make_authority(files)
    try:
        certificate = x509.load_pem_x509_certificate(read_public(str(files.certificate)))
        key = serialization.load_pem_private_key(read_private(str(files.key)), password=None)
    except (OSError, ValueError, TypeError, *UNREADABLE) as error:
        raise _broken_authority(folder, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise _broken_authority(folder, "ca.key is not the key of ca.pem")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise _broken_authority(folder, f"ca.pem expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return Authority(files, certificate, key)


def issue_server(authority: Authority, folder: Path, hosts: Sequence[str] = (), *, days: int = _LEAF_DAYS) -> KeyPair:
    """Write `server.pem` and `server.key`, a certificate for the loopback and `hosts` (names or addresses).

    Raises:
        InvalidArgument: a host is neither a name nor an address.
        ConfigError: the files cannot be written.
    """
    names = [_general_name(host) for host in dict.fromkeys((*LOOPBACK_HOSTS, *hosts))]
    builder = _leaf("localhost", ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _issue(authority, builder, KeyPair(folder / "server.pem", folder / "server.key"), days)


def issue_worker(authority: Authority, folder: Path, worker_id: str, *, days: int = _LEAF_DAYS) -> KeyPair:
    """Write `worker-<id>.pem` and `.key`, a client certificate whose common name is `worker_id`.

    Raises:
        InvalidArgument: `worker_id` is no identity, or longer than the 64 characters of a common name.
        ConfigError: the files cannot be written.
    """
    if not is_identity(worker_id) or len(worker_id) > _COMMON_NAME_MAX:
        raise InvalidArgument(
            f"a certificate cannot have the worker id {worker_id!r}; use 1 to {_COMMON_NAME_MAX} letters, digits or "
            "characters of . _ : / -"
        )
    stem = f"worker-{quote(worker_id, safe='')}"
    builder = _leaf(worker_id, ExtendedKeyUsageOID.CLIENT_AUTH)
    return _issue(authority, builder, KeyPair(folder / f"{stem}.pem", folder / f"{stem}.key"), days)


def days_left(facts: CertificateFacts, now: datetime) -> float:
    """Days until a certificate ends; below zero since it has."""
    return (facts.not_after - now) / timedelta(days=1)


def describe(path: Path) -> list[CertificateFacts]:
    """Return what every certificate in a PEM file says, in the file's order.

    Raises:
        ConfigError: the file cannot be read, or holds no certificate.
    """
    try:
        found = certificates_in(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not found:
        raise ConfigError(f"{path} has no readable certificate (PEM); check that it is not a key or another file")
    return [_facts(certificate) for certificate in found]


def _make_authority(files: KeyPair) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The random part keeps two authorities of one machine apart where people and programs see only the name.
    name = _name(f"Holon development authority {secrets.token_hex(3)}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    certificate = _sign(builder, name, key, key, _AUTHORITY_DAYS)
    _write_pair(files, certificate, key)
    return Authority(files, certificate, key)


def _leaf(common_name: str, usage: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )


def _issue(authority: Authority, builder: x509.CertificateBuilder, files: KeyPair, days: int) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(builder, authority.certificate.subject, key, authority.key, days)
    _write_pair(files, certificate, key)
    return files


def _sign(
    builder: x509.CertificateBuilder,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.Certificate:
    if not 1 <= days <= _AUTHORITY_DAYS:
        raise InvalidArgument(f"a certificate is valid for 1 to {_AUTHORITY_DAYS} days, not {days}; change --days")
    now = datetime.now(UTC)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        builder.issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_id, critical=False)
        .sign(signer, hashes.SHA256())
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host or not host.isascii() or any(not (letter.isalnum() or letter in "-._*") for letter in host):
        raise InvalidArgument(f"{host!r} is not a host name or an address; leave out scheme and port")
    return x509.DNSName(host)


def _write_pair(files: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        make_folder(files.key.parent)
        write_atomically(files.key, private, mode=0o600)
        write_atomically(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    except OSError as error:
        what = f"{error.filename or files.key.parent} cannot be written: {error.strerror}"
        raise ConfigError(f"{what}; use a folder that you may write to") from error


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    names: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    is_authority = False
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names = tuple(f"{_NAME_KINDS.get(type(name), 'other')}:{name.value}" for name in value)
        elif isinstance(value, x509.ExtendedKeyUsage):
            uses = tuple(_USES.get(usage, usage.dotted_string) for usage in value)
        elif isinstance(value, x509.BasicConstraints):
            is_authority = value.ca
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        is_authority=is_authority,
        names=names,
        uses=uses,
    )


def _broken_authority(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the development authority in {folder} cannot be used: {reason}. If you cannot repair it, remove "
        f"{folder / 'ca.pem'} and {folder / 'ca.key'}; then a new one is made, and every certificate must be issued "
        "again"
    )
