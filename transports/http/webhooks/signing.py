"""Webhooks: what is sent is signed, as Standard Webhooks has it (https://www.standardwebhooks.com)."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence


def signed(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that say what a message is, and by which whoever knows a secret sees who it is of.

    Arguments:
        secrets: each of them signs, so that the receiver may know any of them.
        timestamp: the time of this try, in seconds since the epoch.
    """
    name, time = message_id.encode("ascii"), b"%d" % timestamp
    text = b".".join((name, time, body))
    signatures = (b"v1," + b64encode(hmac.digest(secret, text, "sha256")) for secret in secrets)
    return [(b"webhook-id", name), (b"webhook-timestamp", time), (b"webhook-signature", b" ".join(signatures))]
