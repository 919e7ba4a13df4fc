"""Approval tokens: the right to decide one question, made of a token of who sees the job; nobody stores them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

# Who decides with one, in the history: it may be anybody.
HOLDER = "holder of the approval token"
# None is longer.
MAX_TOKEN = 512
_PURPOSE = b"holon approval\0"


def approval_token(digest: bytes, approval_id: str) -> str:
    """The token for a question; empty where there is no token of the owner's to make it of.

    It is good for as long as the question is open, and the owner's token is good.

    Arguments:
        digest: of the owner's token, as it is kept.
    """
    return f"{approval_id}.{_mac(digest, approval_id)}" if digest else ""


def question_of(token: str) -> str:
    """The question that a token says it is for; empty where it is none."""
    approval_id, dot, _ = token.rpartition(".")
    return approval_id if dot and len(token) <= MAX_TOKEN and token.isascii() else ""


def made_of(token: str, digests: Iterable[bytes]) -> bool:
    """Whether a token was made of one of these."""
    approval_id, _, mac = token.rpartition(".")
    return any(hmac.compare_digest(_mac(digest, approval_id), mac) for digest in digests)


def _mac(digest: bytes, approval_id: str) -> str:
    mac = hmac.new(digest, _PURPOSE + approval_id.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
