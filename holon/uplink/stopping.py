"""The uplink: why a job of the parent's is stopped before it ends by itself, and what follows from that."""

from __future__ import annotations

from enum import StrEnum

from holon.domain.events import OUT_OF_TIME
from holon.domain.task import DEADLINE_EXCEEDED
from holon.wire.worker import UNSERVABLE


class Why(StrEnum):
    """The first reason counts; its text is what is noted in the books.

    CANCELLED is the parent's wish; DEADLINE: the time for the task is over, by this holon's clock. The others give the
    task back: LEASE_LOST, as the parent has it again; UNSERVABLE, as nobody here can do it; UNSURE, as nobody knows
    whether there is a job, and the parent was told of none.
    """

    CANCELLED = "CANCELLED"
    DEADLINE = DEADLINE_EXCEEDED
    LEASE_LOST = "LEASE_LOST"
    UNSERVABLE = UNSERVABLE
    UNSURE = "UNSURE"

    @property
    def gives_back(self) -> bool:
        """Whether nobody hears any result: the parent has the task again, and its next offer begins another job."""
        return self in _GIVE_BACK

    @property
    def by(self) -> str:
        """Who wants it, for whoever looks at the job; empty: the parent."""
        return _NOT_ASKED_FOR.get(self, "")


_GIVE_BACK = frozenset((Why.LEASE_LOST, Why.UNSERVABLE, Why.UNSURE))
_WENT_BACK = "uplink: its task went back to the parent holon"
_NOT_ASKED_FOR = {
    Why.DEADLINE: OUT_OF_TIME,
    Why.LEASE_LOST: _WENT_BACK,
    Why.UNSERVABLE: f"{_WENT_BACK}, because no worker here can do it",
    Why.UNSURE: _WENT_BACK,
}


def asked(reason: str) -> Why:
    """What a parent means that has a task stopped: whatever else it says, it wants no result."""
    return Why.LEASE_LOST if reason == Why.LEASE_LOST else Why.CANCELLED


def noted(text: str) -> Why | None:
    """What the books say; None: nothing. A release of before noted the parent's own words."""
    if not text:
        return None
    return next((why for why in Why if why == text), Why.CANCELLED)
