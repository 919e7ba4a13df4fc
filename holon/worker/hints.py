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
                f"check {self.token} and the certificate (both may have expired), and that {self.url} is the address "
                "of a worker port"
            )
        if code is grpc.StatusCode.PERMISSION_DENIED and "WORKER_ID_MISMATCH" in reasons:
            return f"check that {self.worker_id} is the id of the certificate or token"
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return "the node does not understand this worker; compare the versions of both"
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return f"this is not a worker port; check that {self.url} is the address of one"
        return ""

    def _unreachable(self, reasons: str, where: NodeUrl) -> str:
        def said(words: tuple[str, ...]) -> bool:
            return any(word in reasons for word in words)

        if said(_NO_SUCH_NAME):
            return f"check the host name in {self.url}"
        if said(_REFUSED):
            # Of a name with several addresses only one is told of, and at another the handshake may have failed.
            unsure = where.secure and not where.is_address
            return f"nothing listens there; if the node runs, check {self.ca}" if unsure else "nothing listens there"
        if not where.secure:
            return "check that a node without TLS listens there; with TLS the address begins with grpcs://"
        if said(_NOT_TLS):
            return f"the server there does not speak TLS; check the port in {self.url}"
        theirs = f"that {self.ca} has the node's authority, and that its certificate has the name in {self.url}"
        if said(_NOT_TRUSTED):
            return f"the node's certificate is not trusted; check {theirs}"
        if not self.shows:
            return (
                f"if a node listens there, it requires a client certificate, and {self.certificate} is not set. Set "
                "it and its key; for a development authority, `holon certs issue` makes them"
            )
        expires = expiry_of(self.pem)
        if expires is not None and expires <= datetime.now(UTC):
            return (
                f"the certificate of this worker ({self.certificate}) expired at {expires:%Y-%m-%d %H:%M} UTC. "
                "Replace the file and its key, for example by `holon certs issue`; the worker reads them again by "
                "itself"
            )
        # What a failed handshake looks like from here: the node closes without a word.
        return (
            "if a node listens there, the TLS handshake failed: one side did not accept the certificate of the "
            f"other. Check that an authority that the node trusts issued {self.certificate}, that it is valid now "
            f"and for client authentication, and {theirs}"
        )
