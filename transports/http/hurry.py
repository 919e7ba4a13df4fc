"""The HTTP door: whether the client of a connection wants its answer now, whatever that would still wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    @contextmanager
    def telling(self, call: Callable[[], None]) -> Iterator[None]:
        """While this is entered, `call` is called whenever it begins; at once when it has already."""
        self._call = call
        try:
            if self.now:
                call()
            yield
        finally:
            self._call = None
