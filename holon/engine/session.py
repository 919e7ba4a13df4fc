"""A worker's live session, as the engine knows it."""

from __future__ import annotations

from collections.abc import Sequence

from holon.domain.matching import Offering
from holon.ports import Offer, WorkerConnection


class Session:
    """A worker's live session, as the dispatcher knows it.

    `leases` are those that count against its credits, `accepted` those of them that it took; `promised` is what calls
    to the store under way may add.
    """

    def __init__(
        self,
        worker_id: str,
        session_id: str,
        granted: int,
        offerings: Sequence[Offering],
        connection: WorkerConnection,
    ) -> None:
        self.worker_id = worker_id
        self.session_id = session_id
        self.credits = granted
        self.offerings = tuple(offerings)
        self.connection = connection
        self.leases: dict[str, Offer] = {}
        self.accepted: set[str] = set()
        self.instance_id = ""
        self.moved_to = ""
        self.promised = 0
        self.taking = True
        self.fits: set[str] = set()

    def __repr__(self) -> str:
        return f"Session({self.worker_id}, held={len(self.leases)}, credits={self.credits}, taking={self.taking})"

    @property
    def free(self) -> int:
        """How many more tasks it can be given."""
        return self.credits - len(self.leases) - self.promised if self.taking else 0


def business(session: Session) -> float:
    """How much of its credits a session has in use; at 1 it has no room."""
    return (len(session.leases) + session.promised) / max(1, session.credits)
