"""Access tokens: signed JWTs (RFC 9068) that say for a few minutes which worker somebody is."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import jwt

from holon.errors import HolonError, Unauthenticated
from holon.security.identity import is_identity
from holon.security.sts.ring import Ring, Schedule, SigningKey, text_of

AUDIENCE = "holon-workers"
TYPE = "at+jwt"
ALGORITHM = "EdDSA"
MAX_BYTES = 4096
# Clocks differ by a little; but an end is an end.
LEEWAY_S = 30
# No setting allows more, but for the rounding.
_LONGEST_S = 86_401
_KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
# What a token is for. To open sessions; there is nothing else that a worker does with one.
SESSION = "session"
_REQUIRED = ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"]
# Ours, beside the registered ones: the family of refresh tokens, and the static token that it began with.
_FAMILY, _CREDENTIAL = "fam", "crd"
_THUMBPRINT = "x5t#S256"
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says.

    Attributes:
        worker_id: whose it is.
        scopes: what it is for.
        family: of which refresh tokens it came, and with which it ends; empty where there are none.
        token_id: its own name.
        issued_at: epoch seconds.
        expires_at: epoch seconds.
        thumbprint: SHA-256 of the certificate that it is bound to; None where there was none.
        credential: what the static token is known by that it began with; empty where that was a certificate.
        key_id: the key that has signed it, and with which it is taken back.
    """

    worker_id: str
    scopes: tuple[str, ...]
    family: str
    token_id: str
    issued_at: int
    expires_at: int
    thumbprint: bytes | None = None
    credential: str = ""
    key_id: str = field(default="", compare=False)


class UnknownKey(HolonError):
    """Expected: a token names a key that is not known here, or not yet. Look again, once; then it is invalid."""

    code = "TOKEN_INVALID"


class AccessTokens:
    """Makes and reads access tokens.

    Arguments:
        issuer: what they name as their issuer.
        ring: the keys of now.
        schedule: until when a key's tokens are taken.
        now: the store's clock, in epoch milliseconds.
    """

    def __init__(self, issuer: str, ring: Callable[[], Ring], schedule: Schedule, now: Callable[[], int]) -> None:
        self._issuer = issuer
        self._ring = ring
        self._schedule = schedule
        self._now = now
        self._read: dict[bytes, AccessToken] = {}

    def __repr__(self) -> str:
        return f"AccessTokens({self._issuer}, remembered={len(self._read)})"

    def sign(self, token: AccessToken) -> str:
        """A token as text; the same each time, as long as the key of its time is there."""
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": token.worker_id,
            "scope": " ".join(token.scopes),
            "jti": token.token_id,
            "iat": token.issued_at,
            "nbf": token.issued_at,
            "exp": token.expires_at,
            _FAMILY: token.family,
        }
        if token.thumbprint is not None:
            claims["cnf"] = {_THUMBPRINT: text_of(token.thumbprint)}
        if token.credential:
            claims[_CREDENTIAL] = token.credential
        key = self._ring().signing(token.issued_at * 1000)
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": key.kid})

    def signed_now(self, token: AccessToken) -> AccessToken:
        """The token as it will be once it is signed."""
        return replace(token, key_id=self._ring().signing(token.issued_at * 1000).kid)

    def verify(self, text: str) -> AccessToken:
        """What a token says, if it is one of ours and of now.

        Raises:
            UnknownKey: none of our keys has signed it, as far as is known here.
            Unauthenticated: TOKEN_INVALID, or TOKEN_EXPIRED.
        """
        if len(text) > MAX_BYTES:
            raise invalid(f"the token has over {MAX_BYTES} characters, so it is not an access token")
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        token = self._read.get(digest)
        if token is None:
            token = self._verified(text)
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            self._read[digest] = token
        self.check(token)
        return token

    def check(self, token: AccessToken) -> int:
        """See that a token that was verified has not ended, and that its key was not taken back.

        Returns:
            in how many milliseconds it ends.
        Raises:
            Unauthenticated: TOKEN_EXPIRED, or TOKEN_INVALID.
        """
        if self._ring().find(token.key_id) is None:
            raise invalid("the key that signed the access token was revoked; get a new access token")
        left = token.expires_at * 1000 - self._now()
        if left <= 0:
            raise Unauthenticated("the access token has expired; get a new one", code="TOKEN_EXPIRED")
        return left

    def _verified(self, text: str) -> AccessToken:
        try:
            key = self._key(jwt.get_unverified_header(text))
            claims = jwt.decode(
                text,
                key.public,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                # Of times it takes text and fractions as well: they are looked at below.
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            return replace(self._token(claims), key_id=key.kid)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise invalid("the access token was not issued by this holon") from error

    def _key(self, header: Mapping[str, Any]) -> SigningKey:
        kid = header.get("kid")
        if header.get("typ") != TYPE or header.get("alg") != ALGORITHM or "crit" in header:
            raise ValueError("it is another kind of token")
        if not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise ValueError("it names no key")
        ring = self._ring()
        key = ring.find(kid)
        if key is None:
            raise UnknownKey("the access token names a key that this node does not know")
        ends_at = ring.ends_at(key, self._schedule)
        if ends_at is not None and self._now() >= ends_at:
            raise ValueError("its key is no longer in use")
        return key

    def _token(self, claims: Mapping[str, Any]) -> AccessToken:
        issued, starts, expires = (claims[name] for name in ("iat", "nbf", "exp"))
        if not all(type(time) is int for time in (issued, starts, expires)):
            raise ValueError("a time is not a whole number")
        latest = self._now() // 1000 + LEEWAY_S
        if issued > latest or starts > latest or not 0 < expires - issued <= _LONGEST_S:
            raise ValueError("its times are impossible")
        texts = [claims.get(name, "") for name in ("aud", "sub", "jti", "scope", _FAMILY, _CREDENTIAL)]
        if not all(isinstance(one, str) for one in texts) or not is_identity(texts[1]):
            raise ValueError("a claim is not text")
        _, worker_id, token_id, scope, family, credential = texts
        return AccessToken(
            worker_id,
            tuple(scope.split()),
            family,
            token_id,
            issued,
            expires,
            _thumbprint(claims["cnf"]) if "cnf" in claims else None,
            credential,
        )


def _thumbprint(confirmation: Any) -> bytes:
    thumbprint = urlsafe_b64decode(confirmation[_THUMBPRINT] + "=")
    if len(thumbprint) != 32:
        raise ValueError("the thumbprint is invalid")
    return thumbprint


def invalid(message: str) -> Unauthenticated:
    """The refusal of a token that cannot be taken."""
    return Unauthenticated(message, code="TOKEN_INVALID")
