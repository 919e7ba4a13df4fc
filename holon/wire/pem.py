"""The wire: whether TLS files can be used to connect; gRPC finds out only when it does, and blames the other side."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

# What OpenSSL says of a key of another kind, and of another of the same kind.
_OF_ANOTHER = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


# Of a certificate's validity (RFC 5280): UTCTime and GeneralizedTime.
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
_VERSION = 0xA0


def certificates_problem(path: Path) -> str | None:
    """Why the certificates in a file cannot be used; None: they can be. Blocks for the read.

    Raises:
        OSError: it cannot be read.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} has no readable certificate (PEM)"
    return None


def key_problem(key: Path, certificate: Path) -> str | None:
    """Why a file has not the key of the certificate in another, a good one; None: it has. Blocks for the reads.

    Raises:
        OSError: one cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # How strong they must be is the node's to say.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        # Without one, OpenSSL would ask whoever sits at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason in _OF_ANOTHER:
            return f"{key} is not the key of the certificate in {certificate}"
        return f"{key} has no readable private key (PEM, without a passphrase)"
    return None


def expiry_of(pem: bytes) -> datetime | None:
    """When the first certificate of a PEM text expires; None where there is none that can be read."""
    begin, end = pem.find(b"-----BEGIN CERTIFICATE-----"), pem.find(b"-----END CERTIFICATE-----")
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[begin : end + len(b"-----END CERTIFICATE-----")].decode("ascii"))
        # The certificate, and in it the part that is signed.
        at = _value(der, _value(der, 0)[0])[0]
        if der[at] == _VERSION:
            at = sum(_value(der, at))
        for _ in ("serial number", "signature algorithm", "issuer"):
            at = sum(_value(der, at))
        # The validity: its first time is when it begins.
        at = sum(_value(der, _value(der, at)[0]))
        first, size = _value(der, at)
        return datetime.strptime(der[first : first + size].decode("ascii"), _TIMES[der[at]]).replace(tzinfo=UTC)
    except (ValueError, LookupError):
        return None


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Where the value of the DER item at this place begins, and how many bytes it has."""
    size, at = der[at + 1], at + 2
    if size < 0x80:
        return at, size
    after = at + size - 0x80
    return after, int.from_bytes(der[at:after], "big")
