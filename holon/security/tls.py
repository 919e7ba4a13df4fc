"""The server's TLS files, validated here: of a bad file grpc says only that it cannot bind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from holon.errors import ConfigError, Violation
from holon.security.identity import UNREADABLE


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """What a TLS server needs, as one snapshot of its files.

    Attributes:
        chain: the certificate and its intermediates, PEM.
        key: the private key, PEM.
        authorities: the certificates that sign the clients', PEM.
        expires_at_ms: epoch milliseconds at which the server's own certificate ends.
    """

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    expires_at_ms: int


def load_server_credentials(cert_path: str, key_path: str, ca_path: str, now_ms: int) -> ServerCredentials:
    """Read and validate the files of TLS_CERT_PATH, TLS_KEY_PATH and TLS_CA_PATH.

    Blocks for the reads: call it before the loop serves, or in a thread. The files are read once, so what was validated
    is what is served.

    Arguments:
        now_ms: the time, in epoch milliseconds, by which certificates are valid or not.

    Raises:
        ConfigError: all that is wrong, each with its variable and file.
    """
    wrong: list[Violation] = []
    served, key, authorities = (
        _read(name, path, wrong)
        for name, path in (("TLS_CERT_PATH", cert_path), ("TLS_KEY_PATH", key_path), ("TLS_CA_PATH", ca_path))
    )
    leaf = next(iter(_certificates("TLS_CERT_PATH", cert_path, served, wrong)), None)
    trusted = _certificates("TLS_CA_PATH", ca_path, authorities, wrong)
    if leaf is not None:
        wrong += _date_problems("TLS_CERT_PATH", cert_path, leaf, now_ms)
        wrong += _key_problems(key_path, key, leaf, cert_path)
    wrong += _authority_problems(ca_path, trusted, now_ms)
    if wrong or leaf is None:
        lines = "\n".join(f"  {violation.field}: {violation.reason}" for violation in wrong)
        raise ConfigError(f"the TLS files cannot be used; change what is listed:\n{lines}", details=wrong)
    return ServerCredentials(served, key, authorities, int(leaf.not_valid_after_utc.timestamp() * 1000))


def _read(name: str, path: str, wrong: list[Violation]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        wrong.append(Violation(name, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"))
        return b""


def _certificates(name: str, path: str, pem: bytes, wrong: list[Violation]) -> Sequence[x509.Certificate]:
    if any(violation.field == name for violation in wrong):
        return ()
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, *UNREADABLE):
        wrong.append(Violation(name, f"{path} holds no readable certificate (PEM)"))
        return ()


def _key_problems(path: str, pem: bytes, leaf: x509.Certificate, cert_path: str) -> list[Violation]:
    if not pem:
        return []
    try:
        public = load_pem_private_key(pem, password=None).public_key()
    except (ValueError, TypeError):
        return [Violation("TLS_KEY_PATH", f"{path} holds no readable private key (PEM, without a passphrase)")]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return [Violation("TLS_KEY_PATH", f"{path} is not the key of the certificate in {cert_path} (TLS_CERT_PATH)")]
    return []


def _authority_problems(path: str, trusted: Sequence[x509.Certificate], now_ms: int) -> list[Violation]:
    """One good authority is enough: an old one may stay in the file while its certificates are replaced."""
    found = [_date_problems("TLS_CA_PATH", path, one, now_ms) or _not_authority(path, one) for one in trusted]
    return list(chain.from_iterable(found)) if all(found) else []


def _not_authority(path: str, certificate: x509.Certificate) -> list[Violation]:
    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return []
    except (x509.ExtensionNotFound, ValueError, *UNREADABLE):
        pass
    subject = certificate.subject.rfc4514_string()
    return [Violation("TLS_CA_PATH", f"{path}: {subject} is no authority; give what signs the workers' certificates")]


def _date_problems(name: str, path: str, certificate: x509.Certificate, now_ms: int) -> list[Violation]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if now >= certificate.not_valid_after_utc:
        return [Violation(name, f"{path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")]
    if now < certificate.not_valid_before_utc:
        return [Violation(name, f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")]
    return []
