"""The worker SDK: what to look at when a node refuses us, or cannot be reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from holon.wire.address import NodeUrl
from holon.wire.pem import expiry_of

# What gRPC's words for a failed connection have in them; of other words, the hint is for all that may be the matter.
_REFUSED = ("Connection refused",)
_NO_SUCH_NAME = ("errors resolving", "DNS resolution failed", "lookup failed")
_NOT_TRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
# Of these the node says whose what is to be renewed.
_PLAIN = ("CERTIFICATE_EXPIRED", "REVOCATION_UNKNOWN")
_NOT_TLS = ("WRONG_VERSION_NUMBER",)


@dataclass(frozen=True, slots=True)
class Hints:
    """Says what to check, by the names of the settings that it came from.

    Attributes:
        url, worker_id, token, certificate, ca: what those settings are called.
        shows: whether there is a certificate to show.
        pem: the certificate that the connection showed; empty for none.
    """

    url: str = "NODE_URL"
    worker_id: str = "WORKER_ID"
    token: str = "WORKER_TOKEN"  # noqa: S105  # a setting's name
    certificate: str = "TLS_CERT_PATH"
    ca: str = "TLS_CA_PATH"
    shows: bool = True
    pem: bytes = field(default=b"", repr=False)

    def of(self, code: grpc.StatusCode, reasons: str, where: NodeUrl, *, told: bool) -> str:
        """What to check after such an end; empty when the node itself has said it, or nothing needs to be.

        Arguments:
            reasons: all that came with the status, the node's own code for it among it.
            where: the address that was tried.
            told: whether a node has spoken; without that, nobody may have listened at all.
        """
        if code is grpc.StatusCode.UNAVAILABLE:
            return "" if told else self._unreachable(reasons, where)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            if any(reason in reasons for reason in _PLAIN):
                return ""
            return (
                f"check {self.token} and the certificate, which may both have expired, and that {self.url} names the "
                "worker door"
            )
        if code is grpc.StatusCode.PERMISSION_DENIED and "WORKER_ID_MISMATCH" in reasons:
            return f"check that {self.worker_id} is the one that the certificate or token stands for"
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return "the node does not understand this worker; check the versions of both"
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return f"nothing serves workers there; check that {self.url} names the worker door"
        return ""

    def _unreachable(self, reasons: str, where: NodeUrl) -> str:
        def said(words: tuple[str, ...]) -> bool:
            return any(word in reasons for word in words)

        if said(_NO_SUCH_NAME):
            return f"check the host's name in {self.url}"
        if said(_REFUSED):
            # Of a name with several addresses only one is told of, and at another the handshake may have failed.
            unsure = where.secure and not where.is_address
            return f"nothing listens there; if the node runs, check {self.ca}" if unsure else "nothing listens there"
        if not where.secure:
            return "check that a node listens there, and without TLS; with TLS the address begins with grpcs://"
        if said(_NOT_TLS):
            return f"what listens there speaks no TLS; check the port in {self.url}"
        theirs = f"that {self.ca} is the node's authority and {self.url} a name in its certificate"
        if said(_NOT_TRUSTED):
            return f"the node's certificate is not trusted; check {theirs}"
        if not self.shows:
            return (
                f"if a node listens there, its door asks for a certificate, and {self.certificate} is not set: set it "
                "and its key, which `holon certs issue` makes for a development authority"
            )
        expires = expiry_of(self.pem)
        if expires is not None and expires <= datetime.now(UTC):
            return (
                f"our certificate ({self.certificate}) expired at {expires:%Y-%m-%d %H:%M} UTC: put a new one and its "
                "key in its place, such as of `holon certs issue`; they are read again by themselves"
            )
        # What a failed handshake looks like from here: the node closes without a word.
        return (
            "if a node listens there, it did not like our certificate or we not its own: check that "
            f"{self.certificate} is issued by an authority that the node trusts, is in date and meant for client "
            f"authentication, and {theirs}"
        )
