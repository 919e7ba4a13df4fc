"""What is done to a secret before the store has it."""

from __future__ import annotations

from typing import Protocol


class Sealer(Protocol):
    """Encrypts what goes into the store, and decrypts it again; each kind of secret goes through it.

    One that encrypts does so with authentication, and puts `place` into what is authenticated: what was written for
    one place is then of no use in another. It can also open what an earlier one has sealed, `Unsealed` included, so
    that encryption can be turned on and its keys can change while the store is in use.
    """

    def seal(self, place: str, secret: bytes) -> bytes:
        """What to store of a secret.

        Arguments:
            place: where it is stored, as `kind:key`.
        """
        ...

    def open(self, place: str, sealed: bytes) -> bytes:
        """The secret that was sealed for this place.

        Raises:
            ValueError: it was sealed for another place, with another key, or has been changed.
        """
        ...


class Unsealed:
    """Stores secrets as they are: whoever can read the store can read them."""

    def __repr__(self) -> str:
        return "Unsealed()"

    def seal(self, place: str, secret: bytes) -> bytes:  # noqa: ARG002  the shape of those that encrypt
        """The secret itself."""
        return secret

    def open(self, place: str, sealed: bytes) -> bytes:  # noqa: ARG002
        """The secret itself."""
        return sealed
