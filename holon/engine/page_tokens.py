"""Page tokens: where a list goes on, in a form that only nodes of the same store can read or make."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from holon.errors import InvalidArgument, invalid

# No token of a node is longer; a longer one is refused before it is decoded.
MAX_TOKEN = 4_096
SECRET_BYTES = 32


class PageTokens:
    """Makes and reads the page tokens of all lists.

    A token is encrypted and authenticated by a secret of the store, so it works at every node of the store and after a
    restart. The same place of a list always has the same token.

    Arguments:
        secret: SECRET_BYTES random bytes; None makes some, which end with this object.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._cipher = AESSIV(secret or secrets.token_bytes(SECRET_BYTES))

    def __repr__(self) -> str:
        return "PageTokens()"

    def of(self, *names: str) -> ListTokens:
        """The tokens of one list.

        Arguments:
            names: the kind of the list, and whose it is.
        """
        return ListTokens(self._cipher, names)


class ListTokens:
    """Makes and reads the page tokens of one list; a token of another list is refused."""

    def __init__(self, cipher: AESSIV, names: tuple[str, ...]) -> None:
        self._cipher = cipher
        self._names = [name.encode(errors="surrogatepass") for name in names]

    def __repr__(self) -> str:
        return f"ListTokens({self._names})"

    def seal(self, place: bytes) -> str:
        """The token of a place, which is not empty."""
        return text_of(self._cipher.encrypt(place, self._names))

    def open(self, token: str) -> bytes:
        """The place that a token is of; empty for the first page.

        Raises:
            InvalidArgument: the token is not of this list.
        """
        if not token:
            return b""
        if len(token) > MAX_TOKEN or (sealed := bytes_of(token)) is None:
            raise foreign()
        try:
            return self._cipher.decrypt(sealed, self._names)
        except InvalidTag:
            raise foreign() from None

    def token(self, place: Any) -> str:
        """The token of a place that JSON can hold."""
        return self.seal(orjson.dumps(place))

    def place(self, token: str) -> Any:
        """The place that `token` made a token of; None for the first page.

        Raises:
            InvalidArgument: the token is not of this list.
        """
        found = self.open(token)
        return orjson.loads(found) if found else None


def text_of(data: bytes) -> str:
    """Bytes as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes_of(text: str) -> bytes | None:
    """The bytes that `text_of` made a text of; None: it has made no such text."""
    try:
        found = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return found if text_of(found) == text else None


def foreign() -> InvalidArgument:
    """The refusal of a token that is not of this list."""
    return invalid("page_token", "does not belong to this list; start without it")
