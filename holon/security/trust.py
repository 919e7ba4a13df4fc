"""Whether a certificate is still trusted: TLS asks once, when a connection opens, and then never again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from holon.errors import PermissionDenied, Unauthenticated
from holon.security.identity import certificates_in, is_authority, weak_key
from holon.security.revocation import RevocationList, key_of


@dataclass(frozen=True, slots=True)
class Path:
    """The way from a certificate to an authority, and on to those above that: each is signed by the next.

    Attributes:
        certificates: the leaf first, the topmost authority last.
        expires_at_ms: when the first of them ends, without those that are above the authority that it leads to.
    """

    certificates: tuple[x509.Certificate, ...]
    expires_at_ms: float


class Trust:
    """The authorities of one moment, and what they have revoked.

    Arguments:
        authorities: PEM, as TLS has them.
        lists: what they revoked.
        strict: whether an authority's certificates are refused once its list has expired.
    """

    def __init__(self, authorities: bytes, lists: Iterable[RevocationList] = (), *, strict: bool = True) -> None:
        self._authorities = tuple(one for one in certificates_in(authorities) if is_authority(one))
        self._lists = {one.authority: one for one in lists}
        self._strict = strict

    def __repr__(self) -> str:
        return f"Trust(authorities={len(self._authorities)}, lists={len(self._lists)})"

    def path(self, leaf: x509.Certificate, presented: Sequence[x509.Certificate], now_ms: int) -> Path:
        """Find how a certificate leads to one of the authorities.

        Arguments:
            leaf: the caller's own.
            presented: what it sent beside that.
        Raises:
            Unauthenticated: CERTIFICATE_UNTRUSTED; it does not, or no longer. CERTIFICATE_INVALID; an authority on the
                way has a weak key.
        """
        found = self._towards(leaf, presented, now_ms, set())
        if found is None:
            raise Unauthenticated(
                "no authority that this node trusts issued the client certificate, or the node no longer trusts it "
                "(TLS_CA_PATH)",
                code="CERTIFICATE_UNTRUSTED",
            )
        chain = (leaf, *found)
        for one in found:
            if weak := weak_key(one):
                name = one.subject.rfc4514_string()
                raise Unauthenticated(
                    f"the client certificate comes from the authority {name}, which {weak}", code="CERTIFICATE_INVALID"
                )
        return Path((*chain, *self._above(chain[-1], presented)), min(_ends(one) for one in chain))

    def check(self, path: Path, now_ms: int) -> float:
        """Return until when the lists have nothing against a path, in epoch milliseconds; they are asked anew then.

        Raises:
            PermissionDenied: REVOKED.
            Unauthenticated: REVOCATION_UNKNOWN; an authority's list has expired, and it is to be refused then.
        """
        until = math.inf
        for certificate, issuer in zip(path.certificates, path.certificates[1:], strict=False):
            known = self._lists.get(key_of(issuer))
            if known is None:
                continue
            if certificate.serial_number in known.serials:
                raise PermissionDenied(
                    f"the certificate {certificate.serial_number:x} was revoked by its issuer", code="REVOKED"
                )
            if self._strict:
                if now_ms >= known.expires_at_ms:
                    raise Unauthenticated(
                        f"the revocation list of {issuer.subject.rfc4514_string()} has expired; the operator must "
                        "renew TLS_CRL_PATH",
                        code="REVOCATION_UNKNOWN",
                    )
                until = min(until, known.expires_at_ms)
        return until

    def _above(self, authority: x509.Certificate, presented: Sequence[x509.Certificate]) -> Sequence[x509.Certificate]:
        """Those that stand behind an authority of ours, as far as they are known: they may have revoked it."""
        line, known = [authority], (*self._authorities, *presented)
        while True:
            issuers = (one for one in known if one not in line and _issued(line[-1], one) and is_authority(one))
            if (issuer := next(issuers, None)) is None:
                return line[1:]
            line.append(issuer)

    def _towards(
        self,
        certificate: x509.Certificate,
        presented: Sequence[x509.Certificate],
        now_ms: int,
        tried: set[x509.Certificate],
    ) -> tuple[x509.Certificate, ...] | None:
        """The way from a certificate; each that was presented is gone through once, however often it was."""
        for authority in self._authorities:
            if _counts(authority, now_ms) and _issued(certificate, authority):
                return (authority,)
        for between in presented:
            if between in tried or not (_counts(between, now_ms) and is_authority(between)):
                continue
            if _issued(certificate, between):
                tried.add(between)
                if (found := self._towards(between, presented, now_ms, tried)) is not None:
                    return (between, *found)
        return None


def _ends(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp() * 1000


def _counts(certificate: x509.Certificate, now_ms: int) -> bool:
    return certificate.not_valid_before_utc.timestamp() * 1000 <= now_ms < _ends(certificate)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True
