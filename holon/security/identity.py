"""Who a worker is: read from the leaf certificate that TLS accepted, never from a message and never from grpc's names.

grpc's own fields stop at a NUL and show the first of two names; TLS skips the expiry check when it resumes a session
and lets certificates pass that are authorities or have no stated use. So everything is read again here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holon.errors import Unauthenticated

E = TypeVar("E", bound=x509.ExtensionType)

_IDENTITY = re.compile(r"[A-Za-z0-9._:/-]{1,253}")
_URI_SCHEME_SPIFFE = "spiffe:"
# What cryptography raises for a broken certificate beside ValueError.
UNREADABLE = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who presented a certificate, and until when that is proven.

    Attributes:
        name: the identity, which a worker's id must equal.
        expires_at_ms: epoch milliseconds at which the certificate, and so the session that it opened, ends.
    """

    name: str
    expires_at_ms: int


def is_identity(name: str) -> bool:
    """Say whether `name` may be an identity: 1 to 253 letters, digits, dots, underscores, colons, slashes, dashes."""
    return _IDENTITY.fullmatch(name) is not None


def identify(pem: bytes, now_ms: int) -> Identity:
    """Read the identity from a leaf certificate whose chain TLS has already verified.

    Arguments:
        pem: the leaf (`x509_pem_cert` of grpc's auth context); empty when the caller presented none.
        now_ms: the server's time, in epoch milliseconds.

    Raises:
        Unauthenticated: NO_CERTIFICATE, or CERTIFICATE_INVALID with what is wrong and how to issue a right one.
    """
    if not pem:
        raise Unauthenticated(
            "no client certificate was presented; this door needs one: see `holon certs issue`", code="NO_CERTIFICATE"
        )
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        expires_at_ms = _valid_until(leaf, now_ms)
        _check_use(leaf)
        _check_alternative_names(leaf)
        return Identity(_common_name(leaf), expires_at_ms)
    except (ValueError, KeyError, *UNREADABLE) as error:  # KeyError: a name of a type unknown to cryptography < 50
        raise _invalid(f"cannot be read: {error}") from error


def valid_until(der: bytes, now_ms: int) -> int:
    """Check the dates and the use of a client's certificate that TLS has verified, whoever it names.

    Arguments:
        der: the leaf, as Python's TLS shows it.
        now_ms: the server's time, in epoch milliseconds.
    Returns:
        epoch milliseconds at which it ends, and what it opened with it.
    Raises:
        Unauthenticated: CERTIFICATE_INVALID with what is wrong.
    """
    try:
        leaf = x509.load_der_x509_certificate(der)
        expires_at_ms = _valid_until(leaf, now_ms)
        _check_use(leaf)
        return expires_at_ms
    except (ValueError, *UNREADABLE) as error:
        raise _invalid(f"cannot be read: {error}") from error


def identity_of(pem: bytes, now_ms: int) -> str:
    """Return the name alone of `identify`, which see."""
    return identify(pem, now_ms).name


def _valid_until(leaf: x509.Certificate, now_ms: int) -> int:
    expires_at_ms = int(leaf.not_valid_after_utc.timestamp() * 1000)
    if now_ms >= expires_at_ms:
        raise _invalid(f"expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC; renew it")
    if now_ms < leaf.not_valid_before_utc.timestamp() * 1000:
        raise _invalid(f"is valid only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC; compare the clocks")
    return expires_at_ms


def _check_use(leaf: x509.Certificate) -> None:
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise _invalid("is an authority's own; a worker needs a certificate that the authority issued to it")
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise _invalid("is not for clients; issue it with the extended key usage clientAuth")


def _check_alternative_names(leaf: x509.Certificate) -> None:
    names = _extension(leaf, x509.SubjectAlternativeName)
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else ():
        if uri.lower().startswith(_URI_SCHEME_SPIFFE):
            raise _invalid("names a SPIFFE id, which this version cannot map to a worker; issue one with a CN alone")
        raise _invalid("has a URI that is no SPIFFE id as a subject alternative name; issue one with a CN alone")


def _common_name(leaf: x509.Certificate) -> str:
    names = [attribute.value for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1:
        raise _invalid(f"has {len(names)} common names; it needs exactly one, the worker's id")
    name = names[0]
    if not isinstance(name, str) or not is_identity(name):
        raise _invalid(
            f"has the common name {ascii(name)[:80]}; a worker's id is 1 to 253 letters, digits and any of . _ : / -"
        )
    return name


def _extension(leaf: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return leaf.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _invalid(reason: str) -> Unauthenticated:
    return Unauthenticated(f"the client certificate {reason}", code="CERTIFICATE_INVALID")
