"""Certificates of workers as no command of ours makes them, and lists of revoked ones; by the authorities of tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holon.security.certificates import Authority, KeyPair, open_authority


def issue(
    folder: Path,
    authority: Authority,
    common_name: str = "w1",
    *,
    uris: Iterable[str] = (),
    uses: Iterable[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    extensions: Iterable[x509.ExtensionType] = (),
    lasts: timedelta = timedelta(days=1),
    above: Iterable[Path] = (),
    rsa_bits: int = 0,
) -> KeyPair:
    """A client certificate and its key, RSA where that has bits; `above` are put into its file behind it."""
    key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + lasts)
    )
    more = list(extensions)
    if names := [x509.UniformResourceIdentifier(uri) for uri in uris]:
        more.append(x509.SubjectAlternativeName(names))
    if oids := list(uses):
        more.append(x509.ExtendedKeyUsage(oids))
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    stem = folder / f"{certificate.serial_number:x}"
    files = KeyPair(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    chain = [certificate.public_bytes(serialization.Encoding.PEM), *(path.read_bytes() for path in above)]
    files.certificate.write_bytes(b"".join(chain))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.key.touch(0o600)
    files.key.write_bytes(key.private_bytes(*form))
    return files


def intermediate(folder: Path, authority: Authority) -> Authority:
    """An authority that another one made."""
    made = open_authority(folder / "between")
    return _signed(made, authority, path_length=0)


def weak_authority(by: Authority | None = None) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """An authority with an RSA key of 1,024 bits, made by another one or by itself, and its key."""
    key, now = rsa.generate_private_key(65537, 1024), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(key if by is None else by.key, hashes.SHA256()), key


def crossed(authority: Authority, by: Authority) -> Authority:
    """The same authority with a certificate from another."""
    return _signed(authority, by, path_length=None)


def root(folder: Path) -> Authority:
    """An authority that may make others."""
    made = open_authority(folder)
    return _signed(made, made, path_length=None)


def _signed(made: Authority, by: Authority, path_length: int | None) -> Authority:
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(by.certificate.subject)
        .public_key(made.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.certificate.not_valid_before_utc)
        .not_valid_after(made.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    )
    # What Python's TLS asks of an authority from 3.13 on; all of it is as `open_authority` made it.
    for kind in (x509.KeyUsage, x509.SubjectKeyIdentifier):
        extension = made.certificate.extensions.get_extension_for_class(kind)
        builder = builder.add_extension(extension.value, extension.critical)
    key = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    certificate = builder.add_extension(key, critical=False).sign(by.key, hashes.SHA256())
    made.files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(made.files, certificate, made.key)


def certificate_of(files: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def revoke(
    path: Path,
    authority: Authority,
    *revoked: KeyPair,
    lasts: timedelta = timedelta(days=1),
    age: timedelta = timedelta(hours=1),
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> Path:
    """A list of what an authority has revoked."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - age)
        .next_update(now + lasts)
    )
    for files in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate_of(files).serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - age).build())
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    path.write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path
