"""How a session's credits are shared out among partitions, none of which sees what it holds in the others.

The node that has the session does it, in memory. What a partition may let it hold is told with each call that leases;
all of them together are never more than its credits. A partition's share goes back to what the session holds there,
by the partition's own count, as soon as a call has its reply; after one whose reply was lost it stays as it was, until
the partition counts again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from holon.ports import Seat


class _Session:
    """One session: its credits, and by partition what it held there when last counted, and what calls under way may
    let it hold."""

    def __init__(self, granted: int, partitions: int) -> None:
        self.credits = granted
        self.held = [0] * partitions
        self.lent: list[list[int]] = [[] for _ in range(partitions)]

    def share(self, partition: int) -> int:
        """What it may hold in a partition."""
        return max(self.held[partition], *self.lent[partition], 0)

    def most(self, partition: int, n: int) -> int:
        """What it may hold in a partition when it is to get `n` more there: what of its credits no other has."""
        left = self.credits - sum(self.share(other) for other in range(len(self.held)) if other != partition)
        return max(0, min(self.share(partition) + n, left))


class Shares:
    """The shares of this node's sessions.

    Arguments:
        partitions: how many there are.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._sessions: dict[str, _Session] = {}

    def __repr__(self) -> str:
        return f"Shares(sessions={len(self._sessions)}, partitions={self._partitions})"

    def opened(self, session_id: str, granted: int) -> None:
        """A session opens with so many credits."""
        self._sessions[session_id] = _Session(granted, self._partitions)

    def granted(self, session_id: str, granted: int) -> None:
        """A session has other credits than before."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.credits = granted

    def closed(self, session_id: str) -> None:
        """A session has ended."""
        self._sessions.pop(session_id, None)

    def counted(self, session_id: str, partition: int, held: int) -> None:
        """A session holds so many leases in a partition."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.held[partition] = held

    @contextmanager
    def lent(self, partition: int, seats: Sequence[Seat]) -> Iterator[list[tuple[Seat, int]]]:
        """The seats for a call to a partition, each with how many leases its session may hold there while it lasts."""
        places: list[tuple[Seat, int]] = []
        of: list[_Session] = []
        for seat in seats:
            # A session that has ended, or is another node's, gets nothing.
            session = self._sessions.get(seat.session_id)
            if session is not None:
                most = session.most(partition, seat.n)
                session.lent[partition].append(most)
                places.append((seat, most))
                of.append(session)
        try:
            yield places
        finally:
            # Also after a call that was refused: whatever it leased all the same reaches nobody, and lapses there.
            for session, (_, most) in zip(of, places, strict=True):
                session.lent[partition].remove(most)
