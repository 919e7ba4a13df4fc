"""The worker SDK: what to look at when a node refuses us, or cannot be reached."""

from __future__ import annotations

from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Hints:
    """Says what to check, by the names of the settings that it came from.

    Attributes:
        url, worker_id, token, certificate, ca: what those settings are called.
    """

    url: str = "NODE_URL"
    worker_id: str = "WORKER_ID"
    token: str = "WORKER_TOKEN"  # noqa: S105  # a setting's name
    certificate: str = "TLS_CERT_PATH"
    ca: str = "TLS_CA_PATH"

    def of(self, code: grpc.StatusCode, reasons: str, *, secure: bool, told: bool) -> str:
        """What to check after such an end; empty when the node itself has said it, or nothing needs to be.

        Arguments:
            reasons: all that came with the status, the node's own code for it among it.
            secure: whether the connection was to be encrypted.
            told: whether a node has spoken; without that, nobody may have listened at all.
        """
        if code is grpc.StatusCode.UNAVAILABLE:
            return "" if told else self._unreachable(secure)
        if code is grpc.StatusCode.UNAUTHENTICATED:
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

    def _unreachable(self, secure: bool) -> str:
        if not secure:
            return "check that a node listens there, and without TLS; with TLS the address begins with grpcs://"
        # What a failed handshake looks like from here: the node closes without a word.
        return (
            "if a node listens there, it did not like our certificate or we not its own: check that "
            f"{self.certificate} is issued by an authority that the node trusts, is in date and meant for client "
            f"authentication, and that {self.ca} is the node's authority and {self.url} a name in its certificate"
        )
