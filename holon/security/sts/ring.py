"""The keys that access tokens are signed with: which one signs, which are still believed, when the next one comes."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from hashlib import sha256

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_FORM = 1
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
    """All keys, by the time from which they sign; and the secret that refresh tokens are made of."""

    keys: tuple[SigningKey, ...]
    secret: bytes = field(repr=False)

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
        return replace(self, keys=kept) if kept != self.keys else None

    def keyed(self, *parts: str | bytes) -> str:
        """What only who knows the secret can say about these parts, as text of 43 characters."""
        digest = hmac.new(self.secret, digestmod=sha256)
        for part in parts:
            text = part if isinstance(part, bytes) else part.encode()
            digest.update(len(text).to_bytes(4, "big") + text)
        return text_of(digest.digest())

    def to_bytes(self) -> bytes:
        """As it is stored, with all that is secret."""
        keys = [(key.kid, key.private.private_bytes(*_RAW), key.active_at) for key in self.keys]
        packed: bytes = msgpack.packb((_FORM, keys, self.secret))
        return packed

    @classmethod
    def from_bytes(cls, stored: bytes) -> Ring:
        """The ring that was stored.

        Raises:
            ValueError: that is none.
        """
        try:
            form, keys, secret = msgpack.unpackb(stored)
            if form != _FORM:
                raise ValueError(f"they are of form {form!r}, and this version reads {_FORM}")
            read = (SigningKey(kid, Ed25519PrivateKey.from_private_bytes(raw), at) for kid, raw, at in keys)
            return cls(tuple(sorted(read, key=lambda key: key.active_at)), secret)
        except (TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"the signing keys in the store cannot be read: {error}") from error


def text_of(data: bytes) -> str:
    """Bytes as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _key(active_at: int) -> SigningKey:
    return SigningKey(secrets.token_urlsafe(12), Ed25519PrivateKey.generate(), active_at)
