"""What the engine needs of the store for all that is to leave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holon.ports.history import Notice
from holon.ports.jobs import Ends


class Outbox(Protocol):
    """The part of the store that hands over what is to leave it.

    That is history, where a database of its own keeps it, and the ends of jobs that somebody is to be told of: those
    with a `webhook`. That such an end is to be told is written with it, and stays until it is settled.
    """

    async def take(self, limit: int) -> Sequence[Notice]:
        """Take at most `limit` notices that nobody has, in each job oldest first; empty where history stays.

        They are the caller's for as long as a claim lasts; what is not settled then is given to whoever asks next.
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
