"""What is done to a secret before the store has it."""

from __future__ import annotations

from typing import Protocol


class Sealer(Protocol):
    """Encrypts what goes into the store, and decrypts it again; each kind of secret goes through it.

    The place of a secret is authenticated with it: what was written for one place is of no use in another. What was
    stored as it is, before there was a key, is opened as it is, and what was sealed with an earlier key is opened too:
    so encryption can be turned on, and its keys can change, while the store is in use.
    """

    @property
    def on(self) -> bool:
        """Whether anything is sealed."""
        ...

    def seal(self, table: str, row: str, what: str, record: bytes) -> bytes:
        """What to store of a secret.

        Arguments:
            table, row, what: its place.
        """
        ...

    def open(self, table: str, row: str, what: str, stored: bytes) -> bytes:
        """The secret that was sealed for this place.

        Raises:
            StoreUnavailable: it was sealed for another place, with a key that is not here, or has been changed.
        """
        ...

    def outdated(self, stored: bytes) -> bool:
        """Whether this was sealed with another key than the one that seals now."""
        ...
