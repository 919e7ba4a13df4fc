"""What is to be told of jobs, their ends and their events, by when each is due, where all of it is in memory."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from holon.core.row import shard_of

# Entries that count no more go when there are so many, beside twice those that count.
MOST_STALE = 1_000


class EndsToTell:
    """Of which jobs something is to be told, and when. Times are epoch milliseconds."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        # An entry counts while the job is still due then. Those that are due at once are in the order they came in.
        self._queue: list[tuple[int, int, str]] = []
        self._number = 0

    def __repr__(self) -> str:
        return f"EndsToTell({len(self._due)})"

    def put(self, job_id: str, due: int) -> None:
        """Something of a job is to be told, from this time on and not before."""
        if self._due.get(job_id) == due:
            return
        self._due[job_id] = due
        self._number += 1
        heappush(self._queue, (due, self._number, job_id))
        if len(self._queue) > MOST_STALE + 2 * len(self._due):
            self._queue = [entry for entry in self._queue if self._counts(entry)]
            heapify(self._queue)

    def forget(self, job_id: str) -> None:
        """It is to be told no more; nothing, where it is not."""
        self._due.pop(job_id, None)

    def expel(self, shard: int) -> None:
        """Forget all jobs of a shard that is lost."""
        for job_id in [one for one in self._due if shard_of(one) == shard]:
            self.forget(job_id)

    def take(self, now: int, limit: int) -> list[str]:
        """Take out the jobs that are due, those that were first before the others, so many at most."""
        taken: list[str] = []
        while len(taken) < limit and (due := self.next_due()) is not None and due <= now:
            job_id = self._queue[0][2]
            del self._due[job_id]
            taken.append(job_id)
        return taken

    def next_due(self) -> int | None:
        """When the earliest is due; None: there is none."""
        while self._queue and not self._counts(self._queue[0]):
            heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _counts(self, entry: tuple[int, int, str]) -> bool:
        return self._due.get(entry[2]) == entry[0]


class EventsToTell(EndsToTell):
    """Of which jobs events are to be told, and after and up to which lines of their histories."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"EventsToTell({len(self._lines)})"

    def happened(self, job_id: str, after: int, last: int, now: int) -> None:
        """There are more, after a line and up to one: due now, unless those before them are due later."""
        if (known := self._lines.get(job_id)) is not None:
            after = known[0]
        else:
            self.put(job_id, now)
        self._lines[job_id] = after, last

    def expel(self, shard: int) -> None:
        super().expel(shard)
        for job_id in [one for one in self._lines if shard_of(one) == shard]:
            del self._lines[job_id]

    def after(self, job_id: str) -> int:
        """The line after which those begin that are to be told."""
        return self._lines[job_id][0]

    def heard(self, job_id: str, through: int, due: int) -> None:
        """Those up to a line are to be told no more; the others from this time on."""
        if (known := self._lines.get(job_id)) is None:
            return
        after, last = known
        if last <= through:
            del self._lines[job_id]
            self.forget(job_id)
        else:
            self._lines[job_id] = max(after, through), last
            self.put(job_id, due)
