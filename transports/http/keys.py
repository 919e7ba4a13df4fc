"""The HTTP door: the public keys that workers' access tokens are signed with, as a JWK set (RFC 7517, RFC 8037)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from holon.security.sts.access_tokens import ALGORITHM
from holon.security.sts.exchange import KEPT_S, PublicKey
from holon.security.sts.ring import text_of
from holon.transports.http.asgi import Reply
from holon.transports.http.request import Request

Keys: TypeAlias = Callable[[], Sequence[PublicKey]]

# No longer, or a key could sign that who checks tokens elsewhere has not seen.
_CACHED = ((b"cache-control", b"public, max-age=%d" % KEPT_S),)


class KeyRoutes:
    """Shows the keys, also those that will sign soon. Raises StoreUnavailable while they could not be read yet."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def show(self, _: Request) -> Reply:
        """Show all of them."""
        return Reply.of(200, {"keys": [_jwk(key) for key in self._keys()]}, _CACHED)


def _jwk(key: PublicKey) -> dict[str, str]:
    x = text_of(key.public.public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": ALGORITHM, "kid": key.kid, "x": x}
