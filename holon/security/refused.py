"""Who is refused at a door, or shut out again: counted, and told in the audit log where it is for who it is."""

from __future__ import annotations

from collections.abc import Callable

from holon.errors import HolonError, PermissionDenied, Unauthenticated
from holon.telemetry.audit import By, Refusals, note

_WHO = (Unauthenticated, PermissionDenied)


class Refused:
    """What becomes known of those whom a door does not let in.

    Arguments:
        count: counts one, by the way it came and the error's code.
    """

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count
        self._told = Refusals()

    def __repr__(self) -> str:
        return f"Refused({self._told!r})"

    def call(self, error: HolonError, by: By, on: str) -> None:
        """A call was refused.

        Arguments:
            by: who made it, as far as that is proven.
            on: the method, or the route.
        """
        self._count(by.via, error.code)
        if isinstance(error, _WHO):
            self._told.note(by, on, error.code)

    def session(self, error: HolonError, by: By) -> None:
        """A worker's session ended before it wanted it to; told where the worker is not let in any more."""
        if isinstance(error, _WHO):
            note("worker_shut_out", by, on=by.who, result=error.code)
