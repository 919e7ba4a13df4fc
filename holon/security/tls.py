"""The node's TLS files, validated here: of a bad one grpc says only that it cannot bind, or that it cannot connect."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from holon.errors import ConfigError, Violation
from holon.files import read_private, read_public
from holon.security.context import server_context
from holon.security.endings import Ending, ending_of
from holon.security.identity import LEAST_RSA_BITS, UNREADABLE, certificates_in, is_authority, weak_key
from holon.security.revocation import RevocationList, load_lists
from holon.security.trust import Trust

_CURVES = (ec.SECP256R1, ec.SECP384R1)
# What the variables of the files that are for the parent begin with.
_PARENT = "PARENT_"
_FOR_SERVERS = ("servers", ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth")
_FOR_CLIENTS = ("clients", ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth")


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """Where TLS files are, all of them PEM: the server's, or in the first four what the parent is shown.

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


def load_server_credentials(paths: TlsPaths, now_ms: int, served: ServerCredentials | None = None) -> ServerCredentials:
    """Read and validate the files of TLS_CERT_PATH, TLS_KEY_PATH, TLS_CA_PATH and TLS_CRL_PATH.

    Blocks for the reads: call it before the loop serves, or in a thread. The files are read once, so what was validated
    is what is served.

    Arguments:
        now_ms: the time, in epoch milliseconds, by which certificates are valid or not.
        served: what is served now. That its own certificate has ended keeps nothing else from being taken: what was
            revoked since counts, whether or not anybody renews that.

    Raises:
        ConfigError: all that is wrong, each with its variable and file.
    """
    wrong: list[Violation] = []
    found = _look(paths, "", now_ms, wrong, served.chain if served is not None else b"")
    if found.own:
        wrong += _name_problems(paths.certificate, found.own[0])
    if wrong or not found.own:
        raise _unusable(wrong)
    _try(paths, found.chain, found.key, found.authorities)
    endings = (
        *(ending_of(paths.certificate, one) for one in found.own),
        *(ending_of(paths.authorities, one) for one in found.trusted),
    )
    lists = load_lists(paths.lists, found.trusted, now_ms) if paths.lists else ()
    trust = Trust(found.authorities, lists, strict=paths.strict)
    return ServerCredentials(found.chain, found.key, found.authorities, endings[0].at_ms, endings, lists, trust)


def check_parent_files(paths: TlsPaths, now_ms: int) -> None:
    """Read and validate the files of PARENT_TLS_CERT_PATH, PARENT_TLS_KEY_PATH and PARENT_TLS_CA_PATH, where set.

    Blocks for the reads. The link reads them again for each connection.

    Arguments:
        now_ms: as for `load_server_credentials`.

    Raises:
        ConfigError: all that is wrong, each with its variable and file.
    """
    wrong: list[Violation] = []
    _look(paths, _PARENT, now_ms, wrong)
    if wrong:
        raise _unusable(wrong)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in the files: their bytes, and the certificates that can be read in them."""

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    own: Sequence[x509.Certificate]
    trusted: Sequence[x509.Certificate]


def _look(paths: TlsPaths, prefix: str, now_ms: int, wrong: list[Violation], served: bytes = b"") -> _Found:
    """Read the files, and add what is wrong with them by itself and with each other.

    Arguments:
        prefix: what the names of their variables begin with; empty for the server's.
        served: the certificate, with its intermediates, whose dates are no matter, PEM.
    """
    cert_name, key_name, ca_name = (f"{prefix}TLS_{kind}_PATH" for kind in ("CERT", "KEY", "CA"))
    cert_path, ca_path = paths.certificate, paths.authorities
    chain_pem = _read(cert_name, lambda: read_public(cert_path), wrong) if cert_path else b""
    key = _read(key_name, lambda: read_private(paths.key, mounted=paths.mounted), wrong) if cert_path else b""
    authorities = _read(ca_name, lambda: read_public(ca_path), wrong) if ca_path else b""
    own = _certificates(cert_name, cert_path, chain_pem, wrong)
    trusted = _certificates(ca_name, ca_path, authorities, wrong)
    if own:
        wrong += _date_problems(cert_name, cert_path, own[0], now_ms) if chain_pem != served else []
        wrong += _kind_problems(cert_name, cert_path, own[0])
        wrong += _weak_authorities(cert_name, cert_path, own[1:])
        wrong += _use_problems(cert_name, cert_path, own[0])
        wrong += _key_problems(key_name, paths.key, key, own[0], f"{cert_path} ({cert_name})")
    wrong += _weak_authorities(ca_name, ca_path, trusted)
    wrong += _authority_problems(ca_name, ca_path, trusted, now_ms)
    return _Found(chain_pem, key, authorities, own, trusted)


def _try(paths: TlsPaths, served: bytes, key: bytes, authorities: bytes) -> None:
    try:
        server_context(served, key, authorities or None)
    except ssl.SSLError as error:
        reason = f"OpenSSL does not accept {paths.certificate} with its key and authorities: {error.reason or error}"
        raise _unusable([Violation("TLS_CERT_PATH", reason)]) from error


def _unusable(wrong: Sequence[Violation]) -> ConfigError:
    lines = "\n".join(f"  {violation.field}: {violation.reason}" for violation in wrong)
    return ConfigError(f"the TLS files cannot be used; change these places:\n{lines}", details=wrong)


def _read(name: str, read: Callable[[], bytes], wrong: list[Violation]) -> bytes:
    try:
        return read()
    except ValueError as error:
        wrong.append(Violation(name, str(error)))
        return b""


def _certificates(name: str, path: str, pem: bytes, wrong: list[Violation]) -> Sequence[x509.Certificate]:
    if not path or any(violation.field == name for violation in wrong):
        return ()
    found = certificates_in(pem)
    if not found:
        wrong.append(Violation(name, f"{path} has no readable certificate (PEM)"))
    return found


def _kind_problems(name: str, path: str, leaf: x509.Certificate) -> list[Violation]:
    """OpenSSL knows more kinds than gRPC, whose handshakes then fail, each of them."""
    public = leaf.public_key()
    if isinstance(public, rsa.RSAPublicKey) and not weak_key(leaf):
        return []
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES):
        return []
    does = "accepts" if name.startswith(_PARENT) else "serves"
    reason = (
        f"has a key of a kind that not every port {does}; issue one with RSA of {LEAST_RSA_BITS} bits or more, P-256 "
        "or P-384"
    )
    return [Violation(name, f"{path} {reason}")]


def _use_problems(name: str, path: str, leaf: x509.Certificate) -> list[Violation]:
    """Without the extension a certificate is for every use."""
    who, use, word = _FOR_CLIENTS if name.startswith(_PARENT) else _FOR_SERVERS
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, *UNREADABLE) as error:
        return [Violation(name, f"{path} cannot be read: {error}")]
    if use in uses or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in uses:
        return []
    return [Violation(name, f"{path} is not for {who}; issue one with the extended key usage {word}")]


def _name_problems(path: str, leaf: x509.Certificate) -> list[Violation]:
    try:
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        reason = "has no subject alternative name; issue one with the names that callers connect to"
        return [Violation("TLS_CERT_PATH", f"{path} {reason}. Most clients only check these names")]
    except (ValueError, *UNREADABLE) as error:
        return [Violation("TLS_CERT_PATH", f"{path} cannot be read: {error}")]
    return []


def _key_problems(name: str, path: str, pem: bytes, leaf: x509.Certificate, certificate: str) -> list[Violation]:
    if not pem:
        return []
    try:
        public = load_pem_private_key(pem, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return [Violation(name, f"{path} has no readable private key (PEM, without a passphrase)")]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return [Violation(name, f"{path} is not the key of the certificate in {certificate}")]
    return []


def _weak_authorities(name: str, path: str, authorities: Sequence[x509.Certificate]) -> list[Violation]:
    """Each of them may sign for anybody, so one with a weak key is one too many."""
    found = ((one.subject.rfc4514_string(), weak_key(one)) for one in authorities)
    return [Violation(name, f"{path}: {subject} {weak}") for subject, weak in found if weak]


def _authority_problems(name: str, path: str, trusted: Sequence[x509.Certificate], now_ms: int) -> list[Violation]:
    """One good authority is enough: an old one may stay in the file while its certificates are replaced."""
    found = [_date_problems(name, path, one, now_ms) or _not_authority(name, path, one) for one in trusted]
    return list(chain.from_iterable(found)) if all(found) else []


def _not_authority(name: str, path: str, certificate: x509.Certificate) -> list[Violation]:
    parents = name.startswith(_PARENT)
    # One that has signed itself may stand for its server alone.
    if is_authority(certificate) or (parents and certificate.issuer == certificate.subject):
        return []
    subject = certificate.subject.rfc4514_string()
    whose = "the parent's certificate" if parents else "the workers' certificates"
    return [Violation(name, f"{path}: {subject} is not an authority; use the certificate that signs {whose}")]


def _date_problems(name: str, path: str, certificate: x509.Certificate, now_ms: int) -> list[Violation]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if now >= certificate.not_valid_after_utc:
        return [Violation(name, f"{path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")]
    if now < certificate.not_valid_before_utc:
        return [
            Violation(
                name,
                f"{path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; compare the clocks",
            )
        ]
    return []
