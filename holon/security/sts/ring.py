"""The keys that access tokens are signed with: which one signs, which are still believed, when the next one comes."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeVar

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from holon.errors import ResourceExhausted

T = TypeVar("T")

# Form 1 has no secrets of refresh tokens alone; it is still written where there are none, for nodes of before.
_FORM, _FORM_BEFORE = 2, 1
# Of keys and of secrets, those of before counted: who rotates without end fills no document.
MOST = 32
_RAW = (Encoding.Raw, PrivateFormat.Raw, NoEncryption())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. Times are epoch milliseconds of the store.

    Attributes:
        kid: what tokens name it by.
        active_at: from when tokens are signed with it.
    """

    kid: str
    private: Ed25519PrivateKey = field(repr=False)
    active_at: int

    @property
    def public(self) -> Ed25519PublicKey:
        """What checks its signatures."""
        return self.private.public_key()


@dataclass(frozen=True, slots=True)
class RefreshSecret:
    """What refresh tokens are made of; those of one of before are taken until `until`, in epoch milliseconds."""

    secret: bytes = field(repr=False)
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When keys come and go, in milliseconds.

    Attributes:
        rotation: how long a key signs.
        notice: how long a new one is known to all nodes before it does.
        lifetime: how long its last token is taken after that.
    """

    rotation: int
    notice: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Ring:
    """All keys, and what is secret of tokens.

    Attributes:
        keys: by the time from which they sign.
        secret: makes names that nobody else can work out, and the refresh tokens as long as `refresh` is empty.
        refresh: what refresh tokens are made of, the newest first.
    """

    keys: tuple[SigningKey, ...]
    secret: bytes = field(repr=False)
    refresh: tuple[RefreshSecret, ...] = ()

    @classmethod
    def new(cls, now: int) -> Ring:
        """A first key, which signs at once: there is no token yet that anybody would have to believe."""
        return cls((_key(now),), secrets.token_bytes(32))

    def signing(self, now: int) -> SigningKey:
        """The key that signs at this time."""
        active = [key for key in self.keys if key.active_at <= now]
        return active[-1] if active else self.keys[0]

    def find(self, kid: str) -> SigningKey | None:
        """The key of this name."""
        return next((key for key in self.keys if key.kid == kid), None)

    def ends_at(self, key: SigningKey, schedule: Schedule) -> int | None:
        """Until when its tokens are taken; None while no other is to follow it."""
        later = [one.active_at for one in self.keys if one.active_at > key.active_at]
        return min(later) + schedule.lifetime if later else None

    def due(self, now: int, schedule: Schedule) -> Ring | None:
        """The ring as it should be by now; None when it is."""
        kept = tuple(key for key in self.keys if (ends := self.ends_at(key, schedule)) is None or ends > now)
        next_at = self.keys[-1].active_at + schedule.rotation
        if next_at - schedule.notice <= now:
            kept += (_key(max(next_at, now + schedule.notice)),)
        ring = replace(self, keys=kept, refresh=tuple(one for one in self.refresh if (one.until or now + 1) > now))
        return ring if ring != self else None

    def with_new_key(self, now: int, schedule: Schedule, *, revoke: bool) -> Ring:
        """The ring with one more key, which signs once all nodes know it; a key that waits for that is the one already.

        Arguments:
            revoke: forget all others; then it signs at once.
        Raises:
            ResourceExhausted: (TOO_MANY_KEYS) so many others are believed still.
        """
        if revoke:
            return replace(self, keys=(_key(now),))
        if self.keys[-1].active_at > now:
            return self
        return replace(self, keys=(*_room_in(self.keys), _key(now + schedule.notice)))

    def with_new_secret(self, now: int, lasts: int, *, revoke: bool) -> Ring:
        """The ring with another secret for refresh tokens, from now on.

        Arguments:
            lasts: how long those are taken that were made of earlier ones, in milliseconds.
            revoke: forget the earlier ones at once.
        Raises:
            ResourceExhausted: (TOO_MANY_KEYS) so many earlier ones count still.
        """
        before = self.refresh or (RefreshSecret(self.secret),)
        kept = () if revoke else tuple(RefreshSecret(one.secret, one.until or now + lasts) for one in _room_in(before))
        return replace(self, refresh=(RefreshSecret(secrets.token_bytes(32)), *kept))

    def keyed(self, *parts: str | bytes) -> str:
        """What only who knows the secret can say about these parts, as text of 43 characters."""
        return _mac(self.secret, *parts)

    def refreshing(self, *parts: str) -> list[str]:
        """The same with each secret of refresh tokens, the one of now first."""
        return [_mac(one.secret, *parts) for one in self.refresh] or [_mac(self.secret, *parts)]

    def to_bytes(self) -> bytes:
        """As it is stored, with all that is secret."""
        keys = [(key.kid, key.private.private_bytes(*_RAW), key.active_at) for key in self.keys]
        refresh = [(one.secret, one.until) for one in self.refresh]
        stored = (_FORM, keys, self.secret, refresh) if refresh else (_FORM_BEFORE, keys, self.secret)
        packed: bytes = msgpack.packb(stored)
        return packed

    @classmethod
    def from_bytes(cls, stored: bytes) -> Ring:
        """The ring that was stored.

        Raises:
            ValueError: that is none.
        """
        try:
            form, *rest = msgpack.unpackb(stored)
            if form not in (_FORM, _FORM_BEFORE):
                raise ValueError(f"they have the format {form!r}, but this version reads {_FORM}")
            keys, secret, older = rest if form == _FORM else (*rest, ())
            if not keys:
                raise ValueError("there are no keys")
            read = (SigningKey(kid, Ed25519PrivateKey.from_private_bytes(raw), at) for kid, raw, at in keys)
            refresh = tuple(RefreshSecret(one, until) for one, until in older)
            return cls(tuple(sorted(read, key=lambda key: key.active_at)), secret, refresh)
        except (TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"the signing keys in the store cannot be read: {error}") from error


def text_of(data: bytes) -> str:
    """Bytes as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _mac(secret: bytes, *parts: str | bytes) -> str:
    digest = hmac.new(secret, digestmod=sha256)
    for part in parts:
        text = part if isinstance(part, bytes) else part.encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return text_of(digest.digest())


def _room_in(known: tuple[T, ...]) -> tuple[T, ...]:
    """The same, if there may be one more."""
    if len(known) >= MOST:
        raise ResourceExhausted(
            f"{len(known)} keys or secrets are still in use, which is the limit; wait until the first expires, or "
            "revoke them",
            code="TOO_MANY_KEYS",
        )
    return known


def _key(active_at: int) -> SigningKey:
    return SigningKey(secrets.token_urlsafe(12), Ed25519PrivateKey.generate(), active_at)
