"""The notices of a store that one process owns: how much there is of them, and which of them somebody has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holon.core.row import shard_of
from holon.errors import ResourceExhausted
from holon.ports import Notice, StoreSettings

# A notice that was taken and not settled is given out again after this time, in milliseconds.
TAKEN_FOR_MS = 10_000
# About how much one `take` may hand over.
TAKE_BYTES = 4 * 2**20
RETRY_AFTER_S = 5.0


def too_much_waits(waiting: int) -> ResourceExhausted:
    """The refusal of new jobs while so many bytes wait."""
    return ResourceExhausted(
        f"{waiting} bytes of history wait for the database of history, the most allowed (HISTORY_BACKLOG): "
        "see to that database, or try again when it has caught up",
        code="HISTORY_BACKLOG",
        retry_after=RETRY_AFTER_S,
    )


class Outbox:
    """What waits to be moved. Without `StoreSettings.history_backlog` nothing does, and nothing is counted.

    Attributes:
        count: says how many bytes wait, as they are stored.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.count: Callable[[], int] = lambda: 0
        self._limit = settings.history_backlog
        self._taken: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"Outbox(bytes={self.bytes}, taken={len(self._taken)})"

    @property
    def bytes(self) -> int:
        """How many bytes wait, as they are stored."""
        return self.count()

    @property
    def moving(self) -> bool:
        """Whether history is moved out of this store."""
        return self._limit is not None

    @property
    def full(self) -> bool:
        """Whether so much waits that new jobs are refused."""
        return self._limit is not None and self.bytes >= self._limit

    def free(self, notice_id: str, now: int) -> bool:
        """Whether nobody has a notice."""
        return self._taken.get(notice_id, (0, 0))[0] <= now

    def take(self, found: Sequence[tuple[Notice, int]], now: int) -> list[Notice]:
        """Give out those of the notices found, each with its stored size, that nobody has taken meanwhile."""
        free = [(notice, size) for notice, size in found if self.free(notice.id, now)]
        self._taken.update((notice.id, (now + TAKEN_FOR_MS, size)) for notice, size in free)
        return [notice for notice, _ in free]

    def sizes(self, notices: Sequence[str]) -> dict[str, int]:
        """Of these notices those that are still there, with their stored sizes."""
        return {one: self._taken[one][1] for one in notices if one in self._taken}

    def settled(self, notices: Sequence[str]) -> None:
        """These are no longer there."""
        for one in notices:
            self._taken.pop(one, None)

    def expel(self, shard: int) -> None:
        """The notices of a lost shard are free: it may have settled them, or not."""
        for one in [one for one in self._taken if shard_of(one.partition(":")[2]) == shard]:
            del self._taken[one]
