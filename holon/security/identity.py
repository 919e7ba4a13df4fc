"""Who a worker is: read from the leaf certificate that TLS accepted, never from a message and never from grpc's names.

grpc's own fields stop at a NUL and show the first of two names; TLS skips the expiry check when it resumes a session
and lets certificates pass that are authorities or have no stated use. So everything is read again here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holon.domain.fleet import MAX_WORKER_ID
from holon.errors import Unauthenticated

E = TypeVar("E", bound=x509.ExtensionType)

_IDENTITY = re.compile(rf"[A-Za-z0-9._:/-]{{1,{MAX_WORKER_ID}}}")
# A trust domain, and a path whose parts are neither empty nor dots.
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]+(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")
# How many certificates somebody may present above his own: more than anybody has.
MAX_CHAIN = 8
# RSA keys below this can be broken. TLS libraries take them all the same.
LEAST_RSA_BITS = 2048
# What cryptography raises for a broken certificate beside ValueError.
UNREADABLE = (
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Identity:
    """Who presented a certificate, and until when that is proven.

    Attributes:
        name: the identity: a common name, or a SPIFFE id as a whole.
        expires_at_ms: epoch milliseconds at which the certificate, and so the session that it opened, ends.
        spiffe: whether the name is a SPIFFE id.
        certificate: what was presented.
        thumbprint: SHA-256 of the certificate, which tells it from all others.
    """

    name: str
    expires_at_ms: int
    spiffe: bool
    certificate: x509.Certificate = field(repr=False)
    thumbprint: bytes = field(repr=False)

    def check(self, now_ms: int) -> None:
        """Return while the certificate counts: TLS looks when a connection opens, and not even then at a resumed one.

        Raises:
            Unauthenticated: CERTIFICATE_EXPIRED, or CERTIFICATE_INVALID where it does not count yet.
        """
        _check_dates(self.certificate, now_ms)


def is_identity(name: str) -> bool:
    """Say whether `name` may be an identity: 1 to 253 letters, digits, dots, underscores, colons, slashes, dashes."""
    return _IDENTITY.fullmatch(name) is not None


def identify(pem: bytes) -> Identity:
    """Read the identity from a leaf certificate whose chain TLS has already verified. It may have expired since.

    Arguments:
        pem: the leaf (`x509_pem_cert` of grpc's auth context); empty when the caller presented none.

    Raises:
        Unauthenticated: NO_CERTIFICATE, or CERTIFICATE_INVALID with what is wrong and how to issue a right one.
    """
    if not pem:
        raise Unauthenticated(
            "no client certificate; this port needs one, see `holon certs issue`", code="NO_CERTIFICATE"
        )
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        _check_use(leaf)
        spiffe = _spiffe_id(leaf)
        return Identity(
            _common_name(leaf) if spiffe is None else spiffe,
            _ms(leaf.not_valid_after_utc),
            spiffe is not None,
            leaf,
            leaf.fingerprint(SHA256()),
        )
    except (ValueError, KeyError, *UNREADABLE) as error:  # KeyError: a name of a type unknown to cryptography < 50
        raise _invalid(f"cannot be read: {error}") from error


def certificates_in(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text, in its order; none of one that cannot be read as a whole."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
        for one in found:
            # What else of a broken one would be found out only when it is asked for.
            _ = one.public_key(), one.subject.rfc4514_string(), one.issuer, one.not_valid_after_utc
    except (ValueError, *UNREADABLE):
        return ()
    return found


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate says of itself that it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError, *UNREADABLE):
        return False


def weak_key(certificate: x509.Certificate) -> str:
    """What is wrong with the key of a certificate; empty where it is strong enough."""
    public = certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < LEAST_RSA_BITS:
        return (
            f"has an RSA key of {public.key_size} bits; issue one with RSA of {LEAST_RSA_BITS} bits or more, or with "
            "P-256"
        )
    return ""


def certificates_of(presented: Iterable[bytes]) -> tuple[x509.Certificate, ...]:
    """Read what a client has presented, its own certificate first; DER, as Python's TLS shows it.

    Raises:
        Unauthenticated: NO_CERTIFICATE, or CERTIFICATE_INVALID.
    """
    try:
        found = tuple(x509.load_der_x509_certificate(der) for der in presented)
    except ValueError as error:
        raise _invalid(f"cannot be read: {error}") from error
    if not found:
        raise Unauthenticated("no client certificate", code="NO_CERTIFICATE")
    check_length(len(found) - 1)
    return found


def check_length(above: int) -> None:
    """Return when no more certificates were presented above a client's own than are looked at.

    Raises:
        Unauthenticated: CERTIFICATE_INVALID.
    """
    if above > MAX_CHAIN:
        raise _invalid(f"comes with {above} others; send only the intermediate certificates, at most {MAX_CHAIN}")


def valid_until(leaf: x509.Certificate, now_ms: int) -> int:
    """Check the dates and the use of a client's certificate that TLS has verified, whoever it names.

    Arguments:
        now_ms: the server's time, in epoch milliseconds.
    Returns:
        epoch milliseconds at which it ends, and what it opened with it.
    Raises:
        Unauthenticated: CERTIFICATE_INVALID, or CERTIFICATE_EXPIRED, with what is wrong.
    """
    try:
        _check_dates(leaf, now_ms)
        _check_use(leaf)
        return _ms(leaf.not_valid_after_utc)
    except (ValueError, *UNREADABLE) as error:
        raise _invalid(f"cannot be read: {error}") from error


def _check_dates(leaf: x509.Certificate, now_ms: int) -> None:
    if now_ms >= _ms(leaf.not_valid_after_utc):
        raise Unauthenticated(
            f"the client certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC; renew it",
            code="CERTIFICATE_EXPIRED",
        )
    if now_ms < _ms(leaf.not_valid_before_utc):
        raise _invalid(f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC; compare the clocks")


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _check_use(leaf: x509.Certificate) -> None:
    if weak := weak_key(leaf):
        raise _invalid(weak)
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise _invalid("is that of an authority; a worker needs a certificate that the authority issued")
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise _invalid("is not for TLS clients; issue it with the extended key usage clientAuth")


def _spiffe_id(leaf: x509.Certificate) -> str | None:
    """The one URI among the alternative names; None where there is none, and the common name counts."""
    names = _extension(leaf, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if not uris:
        return None
    if len(uris) > 1:
        raise _invalid(f"has {len(uris)} URIs as subject alternative names; a worker may have one, its SPIFFE id")
    if not _SPIFFE_ID.fullmatch(uris[0]) or not is_identity(uris[0]):
        raise _invalid(
            f"has the URI {ascii(uris[0])[:80]}, which is not a SPIFFE id; issue one such as "
            "spiffe://example.org/worker, or with only a CN"
        )
    return uris[0]


def _common_name(leaf: x509.Certificate) -> str:
    names = [attribute.value for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1:
        raise _invalid(f"has {len(names)} common names; it needs exactly one, which is the worker's id")
    name = names[0]
    if not isinstance(name, str) or not is_identity(name):
        raise _invalid(
            f"has the common name {ascii(name)[:80]}; a worker's id has 1 to 253 letters, digits or characters of . "
            "_ : / -"
        )
    if name.lower().startswith("spiffe:"):
        raise _invalid(
            "has a SPIFFE id as its common name; issue it with the id as a URI in the subject alternative names"
        )
    return name


def _extension(leaf: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return leaf.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _invalid(reason: str) -> Unauthenticated:
    return Unauthenticated(f"the client certificate {reason}", code="CERTIFICATE_INVALID")
