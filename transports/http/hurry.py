"""The HTTP door: whether the client of a connection wants its answer now, whatever that would still wait for."""

from __future__ import annotations

from collections.abc import Callable


class Hurry:
    """Of one connection, which serves one request at a time.

    A client that sends something behind its request, ends its side, or is gone, waits for nothing any more.

    Attributes:
        now: whether that is so.
    """

    __slots__ = ("_call", "now")

    def __init__(self) -> None:
        self.now = False
        self._call: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"Hurry(now={self.now})"

    def begin(self) -> None:
        """It is so from now on."""
        self.now = True
        if self._call is not None:
            self._call()

    def tell(self, call: Callable[[], None]) -> None:
        """Until `forget`, have this called whenever it begins; at once when it has already."""
        self._call = call
        if self.now:
            call()

    def forget(self) -> None:
        """Call nothing any more."""
        self._call = None
