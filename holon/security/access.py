"""Tokens at the doors: one gate per door, closed when it has no token, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac

from holon.errors import Unauthenticated

_CODE = "TOKEN_INVALID"


class TokenGate:
    """Lets in who presents the one token of a door. It keeps the token's digest, not the token.

    Arguments:
        token: the door's token; None or empty refuses every call.
        header: the header or metadata key that carries it, as callers should write it.
        setting: the setting that holds the token, for the message of a closed door.
    """

    def __init__(self, token: str | None, *, header: str = "X-Client-Token", setting: str = "CLIENT_TOKEN") -> None:
        self._digest = _digest(token) if token else None
        self._header = header
        self._setting = setting

    def __repr__(self) -> str:
        return f"TokenGate({self._header}, {'closed' if self._digest is None else 'open to its token'})"

    def check(self, presented: str | None) -> None:
        """Return when `presented` is the door's token.

        Raises:
            Unauthenticated: TOKEN_INVALID; no token was presented, another one, or the door has none.
        """
        if self._digest is None:
            raise Unauthenticated(
                f"this door is closed: the node has no {self._setting}; its operator must set one", code=_CODE
            )
        if not presented:
            raise Unauthenticated(f"Missing {self._header} header", code=_CODE)
        if not hmac.compare_digest(_digest(presented), self._digest):
            raise Unauthenticated("Unauthorized: Invalid token", code=_CODE)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
