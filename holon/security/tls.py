"""The server's TLS files, validated here: of a bad file grpc says only that it cannot bind."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from holon.errors import ConfigError, Violation
from holon.files import read_private, read_public
from holon.security.context import server_context
from holon.security.endings import Ending, ending_of
from holon.security.identity import certificates_in, is_authority
from holon.security.revocation import RevocationList, load_lists
from holon.security.trust import Trust

_LEAST_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """Where the server's TLS files are, all of them PEM.

    Attributes:
        certificate: the server's certificate and its intermediates (TLS_CERT_PATH).
        key: its private key (TLS_KEY_PATH).
        authorities: what signs the callers' certificates (TLS_CA_PATH); empty: callers show none.
        mounted: whether the key may be a link and readable by its group (SECRETS_MOUNTED).
        lists: what these have revoked, a file or a folder (TLS_CRL_PATH); empty: nothing is looked at.
        strict: whether an authority's certificates are refused once its list has expired (TLS_CRL_EXPIRED).
    """

    certificate: str
    key: str
    authorities: str
    mounted: bool = False
    lists: str = ""
    strict: bool = True


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """What a TLS server needs, as one snapshot of its files.

    Attributes:
        chain: the certificate and its intermediates, PEM.
        key: the private key, PEM.
        authorities: the certificates that sign the callers', PEM; empty: callers show none.
        expires_at_ms: epoch milliseconds at which the server's own certificate ends.
        endings: when each of the certificates ends, the server's own first.
        lists: what the authorities have revoked.
        trust: says which of the callers' certificates are trusted, by authorities and lists.
    """

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    expires_at_ms: int
    endings: tuple[Ending, ...]
    lists: tuple[RevocationList, ...]
    trust: Trust = field(compare=False)


def load_server_credentials(paths: TlsPaths, now_ms: int) -> ServerCredentials:
    """Read and validate the files of TLS_CERT_PATH, TLS_KEY_PATH, TLS_CA_PATH and TLS_CRL_PATH.

    Blocks for the reads: call it before the loop serves, or in a thread. The files are read once, so what was validated
    is what is served.

    Arguments:
        now_ms: the time, in epoch milliseconds, by which certificates are valid or not.

    Raises:
        ConfigError: all that is wrong, each with its variable and file.
    """
    wrong: list[Violation] = []
    cert_path, ca_path = paths.certificate, paths.authorities
    served = _read("TLS_CERT_PATH", paths, wrong)
    key = _read("TLS_KEY_PATH", paths, wrong)
    authorities = _read("TLS_CA_PATH", paths, wrong) if ca_path else b""
    own = _certificates("TLS_CERT_PATH", cert_path, served, wrong)
    trusted = _certificates("TLS_CA_PATH", ca_path, authorities, wrong) if ca_path else ()
    leaf = next(iter(own), None)
    if leaf is not None:
        wrong += _date_problems("TLS_CERT_PATH", cert_path, leaf, now_ms)
        wrong += _kind_problems(cert_path, leaf)
        wrong += _key_problems(paths.key, key, leaf, cert_path)
    wrong += _authority_problems(ca_path, trusted, now_ms) if ca_path else []
    if wrong or leaf is None:
        raise _unusable(wrong)
    _try(paths, served, key, authorities)
    endings = (*(ending_of(cert_path, one) for one in own), *(ending_of(ca_path, one) for one in trusted))
    lists = load_lists(paths.lists, trusted, now_ms) if paths.lists else ()
    trust = Trust(authorities, lists, strict=paths.strict)
    return ServerCredentials(served, key, authorities, endings[0].at_ms, endings, lists, trust)


def _try(paths: TlsPaths, served: bytes, key: bytes, authorities: bytes) -> None:
    try:
        server_context(served, key, authorities or None)
    except ssl.SSLError as error:
        reason = f"{paths.certificate}, with its key and authorities, is not taken by OpenSSL: {error.reason or error}"
        raise _unusable([Violation("TLS_CERT_PATH", reason)]) from error


def _unusable(wrong: Sequence[Violation]) -> ConfigError:
    lines = "\n".join(f"  {violation.field}: {violation.reason}" for violation in wrong)
    return ConfigError(f"the TLS files cannot be used; change what is listed:\n{lines}", details=wrong)


def _read(name: str, paths: TlsPaths, wrong: list[Violation]) -> bytes:
    try:
        if name == "TLS_KEY_PATH":
            return read_private(paths.key, mounted=paths.mounted)
        return read_public(paths.certificate if name == "TLS_CERT_PATH" else paths.authorities)
    except ValueError as error:
        wrong.append(Violation(name, str(error)))
        return b""


def _certificates(name: str, path: str, pem: bytes, wrong: list[Violation]) -> Sequence[x509.Certificate]:
    if any(violation.field == name for violation in wrong):
        return ()
    found = certificates_in(pem)
    if not found:
        wrong.append(Violation(name, f"{path} holds no readable certificate (PEM)"))
    return found


def _kind_problems(path: str, leaf: x509.Certificate) -> list[Violation]:
    """OpenSSL serves more kinds than gRPC, whose handshakes then fail, each of them."""
    public = leaf.public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= _LEAST_RSA_BITS:
        return []
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES):
        return []
    reason = (
        f"has a key that not every door can serve; issue one for RSA of {_LEAST_RSA_BITS} bits or more, P-256 or P-384"
    )
    return [Violation("TLS_CERT_PATH", f"{path} {reason}")]


def _key_problems(path: str, pem: bytes, leaf: x509.Certificate, cert_path: str) -> list[Violation]:
    if not pem:
        return []
    try:
        public = load_pem_private_key(pem, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
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
    if is_authority(certificate):
        return []
    subject = certificate.subject.rfc4514_string()
    return [Violation("TLS_CA_PATH", f"{path}: {subject} is no authority; give what signs the workers' certificates")]


def _date_problems(name: str, path: str, certificate: x509.Certificate, now_ms: int) -> list[Violation]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if now >= certificate.not_valid_after_utc:
        return [Violation(name, f"{path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")]
    if now < certificate.not_valid_before_utc:
        return [Violation(name, f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")]
    return []
