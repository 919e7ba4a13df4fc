"""Lists of revoked certificates (CRLs), as authorities publish them: read, verified, and asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holon.errors import ConfigError, Violation
from holon.files import read_public
from holon.security.identity import UNREADABLE

SETTING = "TLS_CRL_PATH"
MAX_BYTES = 64 * 1024 * 1024
# Clocks differ by a little: a list that was made just now may be from the future.
_LEEWAY_MS = 300_000
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_BEGIN = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What one authority has revoked.

    Attributes:
        authority: its public key, DER: names can be shared, or change their writing.
        name: who that is, and the file, for people.
        serials: of the revoked certificates.
        made_at_ms: since when it says so, in epoch milliseconds.
        expires_at_ms: until when it counts; later revocations are not in it.
    """

    authority: bytes = field(repr=False)
    name: str
    serials: frozenset[int] = field(repr=False)
    made_at_ms: int
    expires_at_ms: int


def load_lists(path: str, authorities: Sequence[x509.Certificate], now_ms: int) -> tuple[RevocationList, ...]:
    """Read the lists of a file, or of all files of a folder: PEM, several in one file perhaps, or DER. Blocks for it.

    Of several lists of one authority the newest counts. A list that has expired is returned as well: what to do about
    it is not decided here.

    Arguments:
        authorities: whose lists may be there.
        now_ms: the time, in epoch milliseconds.
    Raises:
        ConfigError: all that is wrong; the details name the files.
    """
    wrong: list[Violation] = []
    newest: dict[bytes, RevocationList] = {}
    for file in _files(path, wrong):
        for one in _lists(file, authorities, now_ms, wrong):
            if one.authority not in newest or newest[one.authority].made_at_ms < one.made_at_ms:
                newest[one.authority] = one
    if wrong:
        lines = "\n".join(f"  {violation.field}: {violation.reason}" for violation in wrong)
        raise ConfigError(f"the revocation lists cannot be used; change these places:\n{lines}", details=wrong)
    return tuple(newest.values())


def key_of(certificate: x509.Certificate) -> bytes:
    """What a list is found by: the authority's public key."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _files(path: str, wrong: list[Violation]) -> list[Path]:
    here = Path(path)
    try:
        found = sorted(one for one in here.iterdir() if one.is_file()) if here.is_dir() else [here]
    except (OSError, ValueError) as error:
        wrong.append(_unreadable(path, error))
        return []
    if not found:
        wrong.append(Violation(SETTING, f"{path} is an empty folder; if nothing is revoked, unset TLS_CRL_PATH"))
    return found


def _lists(
    file: Path, authorities: Iterable[x509.Certificate], now_ms: int, wrong: list[Violation]
) -> list[RevocationList]:
    try:
        data = read_public(str(file), MAX_BYTES)
    except ValueError as error:
        # It says which file it is of.
        wrong.append(Violation(SETTING, str(error)))
        return []
    try:
        found = [x509.load_pem_x509_crl(one) for one in _PEM.findall(data)]
        if not found:
            if _BEGIN in data:
                raise ValueError("it contains no list")
            found = [x509.load_der_x509_crl(data)]
        return [_verified(file, one, authorities, now_ms) for one in found]
    except _Refused as error:
        wrong.append(Violation(SETTING, f"{file} {error}"))
    except (ValueError, UnsupportedAlgorithm, *UNREADABLE) as error:
        wrong.append(_unreadable(str(file), error))
    return []


class _Refused(Exception):
    """A list that is one, and cannot be used; its text says why."""


def _verified(
    file: Path, found: x509.CertificateRevocationList, authorities: Iterable[x509.Certificate], now_ms: int
) -> RevocationList:
    name = found.issuer.rfc4514_string()
    signer = next((one for one in authorities if one.subject == found.issuer and _signed(found, one)), None)
    if signer is None:
        raise _Refused(f"is not signed by an authority of TLS_CA_PATH; its issuer is {name}")
    if critical := [one.oid.dotted_string for one in found.extensions if one.critical]:
        # Such as lists of changes only, or of some certificates only.
        raise _Refused(f"is of an unsupported kind: it has the critical extensions {', '.join(critical)}")
    if found.next_update_utc is None:
        raise _Refused("does not say when it expires (nextUpdate)")
    made_at_ms = int(found.last_update_utc.timestamp() * 1000)
    if made_at_ms > now_ms + _LEEWAY_MS:
        raise _Refused(f"is not valid before {found.last_update_utc:%Y-%m-%d %H:%M} UTC; compare the clocks")
    return RevocationList(
        key_of(signer),
        f"{name} in {file}",
        frozenset(one.serial_number for one in found),
        made_at_ms,
        int(found.next_update_utc.timestamp() * 1000),
    )


def _signed(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    public: CertificateIssuerPublicKeyTypes = authority.public_key()  # type: ignore[assignment]  # of an authority
    try:
        return found.is_signature_valid(public)
    except (InvalidSignature, TypeError, UnsupportedAlgorithm):
        return False


def _unreadable(path: str, error: Exception) -> Violation:
    return Violation(
        SETTING, f"{path} cannot be read as a revocation list (PEM or DER): {getattr(error, 'strerror', None) or error}"
    )
