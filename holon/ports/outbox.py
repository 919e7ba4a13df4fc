"""What the engine needs of the store for all that is to leave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holon.ports.history import Notice
from holon.ports.jobs import Ends, Happened


class Outbox(Protocol):
    """The part of the store that hands over what is to leave it.

    That is history, where a database of its own keeps it, and what somebody is to be told of jobs that have a
    `webhook`: their events, and their ends. That it is to be told is written with it, and stays until it is settled.
    Of a job's events it is the number of a line, however many there are: what they are is in its history.
    """

    async def take(self, limit: int) -> Sequence[Notice]:
        """Take at most `limit` notices that nobody has, in each job oldest first; empty where history stays.

        They are the caller's for ten seconds; what is not settled then is given to whoever asks next.
        """
        ...

    async def settle(self, notices: Sequence[str]) -> None:
        """Forget notices, given by their ids: what they tell is kept elsewhere now. A repeat changes nothing."""
        ...

    async def take_ends(self, limit: int, hold: int) -> Ends:
        """Take jobs that are over, whose end is still to be told and is due now; those that are due first come first.

        They are the caller's for so long, then whoever asks next gets them: also where the reply was lost. It ends at
        `limit` jobs, or before their states have more than MAX_PAGE_BYTES together; there may be more that are due, as
        `next_due` says.

        Arguments:
            hold: for how long nobody else gets them, in milliseconds; where one process owns the store, no longer than
                that lives.
        """
        ...

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]] = ()) -> None:
        """Say what became of ends that were taken. A repeat changes nothing.

        Arguments:
            told: the jobs, by their ids, whose ends are to be told no more.
            again: the others, and after how many milliseconds each is due again, whatever its hold was.
        """
        ...

    async def take_events(self, limit: int, hold: int) -> Happened:
        """Take jobs whose history has events that are to be told, and are due now; as `take_ends`."""
        ...

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        """Say what became of events that were taken. A repeat changes nothing, nor does late word of earlier lines.

        Arguments:
            heard: of each job its id, up to which line of its history they are to be told no more, and after how many
                milliseconds those that come after that are due, whatever its hold was.
        """
        ...
