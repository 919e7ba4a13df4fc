"""The worker door: who is refused, or shut out again: counted, and told in the audit log where it is for who it is."""

from __future__ import annotations

from holon.errors import HolonError, PermissionDenied, Unauthenticated
from holon.security.admission import Caller
from holon.telemetry.audit import Refusals, note
from holon.telemetry.metrics import StreamMetrics

_WHO = (Unauthenticated, PermissionDenied)


class Refused:
    """What becomes known of those whom one door does not let in.

    Arguments:
        metrics: where they are counted.
    """

    def __init__(self, metrics: StreamMetrics) -> None:
        self._metrics = metrics
        self._told = Refusals()

    def __repr__(self) -> str:
        return f"Refused({self._told!r})"

    def call(self, error: HolonError, caller: Caller, on: str, peer: str) -> None:
        """A call was refused.

        Arguments:
            caller: who it is of, as far as that is proven.
            on: the method.
            peer: the address that it came from.
        """
        self._metrics.refused.add(error.code)
        if isinstance(error, _WHO):
            self._told.note(who=proven(caller), via="worker", on=on, result=error.code, peer=peer)

    def session(self, error: HolonError, worker_id: str, peer: str) -> None:
        """A session ended before its worker wanted it to; told where the worker is not let in any more."""
        if isinstance(error, _WHO):
            note("worker_shut_out", who=worker_id, via="worker", on=worker_id, result=error.code, peer=peer)


def proven(caller: Caller) -> str:
    """What a caller has proven to be called; empty where that is nothing of its own."""
    if caller.access is not None:
        return caller.access.worker_id
    return caller.identity.name if caller.identity is not None else ""
