"""What is to be told of jobs, as whoever tells it sees it: whatever it is, of each job one thing after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from holon.domain.value import Value
from holon.ports import Hint, JobRecord


class Due(Value, gc=True):
    """A job of which something is to be told; of its events, those after this line of its history."""

    record: JobRecord
    after: int = 0


class Message(Value, gc=True):
    """What is told. `since` is when it was, in epoch milliseconds; `what` says what it is, for the log."""

    id: str
    body: bytes
    since: int
    what: str


class Found(Value, gc=True):
    """What is told next of a job; None: there is nothing more.

    Up to which line of its history it goes; and how many before it are not told any more, since they are too old.
    """

    message: Message | None
    line: int = 0
    lost: int = 0


class Outcome(Value):
    """What became of it: up to which line all is told or given up, and after how many milliseconds there is to be
    another try; None: of what is told here, there is none.
    """

    line: int
    again: int | None = None


class Source(Protocol):
    """What is to be told.

    Attributes:
        rest: what all of a job's is called, for the log.
        in_turn: whether one may have waited for others before it was tried.
    """

    rest: str
    in_turn: bool

    async def take(self, limit: int, hold: int) -> tuple[Sequence[Due], int | None]:
        """Take what is due, as `Outbox.take_ends`; and when the next of the others is."""
        ...

    async def find(self, due: Due, too_old: int) -> Found:
        """What is to be told now.

        Arguments:
            too_old: what was before this time, in epoch milliseconds, is late, whatever becomes of it.
        """
        ...

    async def settle(self, outcomes: Mapping[str, Outcome]) -> int | None:
        """Store what became of jobs.

        Returns:
            after how many milliseconds there may be more to tell of them; None: there is nothing more.
        """
        ...

    def heard(self, hint: Hint) -> bool:
        """Whether a hint says that there is something."""
        ...

    def told(self, after: int) -> None:
        """Count what was told, and after how many milliseconds."""
        ...

    def given_up(self, count: int) -> None:
        """Count what is not told, and is tried no more."""
        ...
