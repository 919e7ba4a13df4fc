"""The core: tasks that wait for a lease, in one queue for each match key, ordered by priority, then arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

from holon.core.rows import QUEUED, SOFT, TaskRow
from holon.domain.matching import Need

# A lease skips at most this many tasks of a queue that avoid the worker, then gives up on the queue.
LOOK_PAST = 16
# A queue drops its stale entries when it has more than this many entries plus twice its waiting tasks.
MOST_STALE = 1_000

# (negative priority, arrival number, task id).
_Entry: TypeAlias = tuple[float, int, str]


class Backlog:
    """Queues that are cleaned lazily: an entry counts only while its task agrees with it.

    Arguments:
        tasks: the rows of all tasks that are not over, by id.
        hint: called with each match key whose tasks may be leased.

    Attributes:
        needs: the need of each match key that has waiting tasks.
        waiting: the number of waiting tasks of each match key.
    """

    def __init__(self, tasks: Mapping[str, TaskRow], hint: Callable[[str], None]) -> None:
        self.needs: dict[str, Need] = {}
        self.waiting: dict[str, int] = {}
        self._queues: dict[str, list[_Entry]] = {}
        self._tasks = tasks
        self._hint = hint

    @property
    def entries(self) -> int:
        """The number of entries, stale ones included."""
        return sum(map(len, self._queues.values()))

    def enqueue(self, *rows: TaskRow) -> None:
        """Put edited tasks into the queues of their match keys, ordered by priority and first arrival."""
        for key, some in groupby(rows, attrgetter("key")):
            queue = self._queues.setdefault(key, [])
            before = len(queue)
            for row in some:
                heappush(queue, _place(row))
            self.needs.setdefault(key, row.need)
            self._count(key, len(queue) - before)
            self._hint(key)

    def absorb(self, other: Backlog) -> None:
        """Add all queues of another backlog, whose tasks are among this one's now."""
        for key, entries in other._queues.items():
            queue = self._queues.setdefault(key, [])
            queue += entries
            heapify(queue)
            self.needs[key] = other.needs[key]
            self.waiting[key] = self.waiting.get(key, 0) + other.waiting[key]
            self._hint(key)

    def dequeued(self, row: TaskRow) -> None:
        """Count a task that has left its queue."""
        self._count(row.key, -1)

    def take(self, keys: Sequence[str], worker_id: str, only: frozenset[str], now: int, most: int) -> Sequence[TaskRow]:
        """Take the first tasks of these queues that do not avoid the worker; empty if none is found.

        The caller must change the state of the returned rows before the next call: they are no longer queued.

        Arguments:
            only: match keys that no other worker can do; for these, tasks ignore SOFT entries of `avoid`.
            most: the most tasks to take. Fewer may be returned even if more are waiting.
        """
        waiting = [key for key in keys if key in self.waiting]
        # A fast path: nearly all calls have one queue, and there are thousands of calls a second.
        if len(waiting) == 1 and (found := self._run(waiting[0], most)):
            return found
        best = self._best(waiting, worker_id, only, now)
        return () if best is None else (best,)

    def _run(self, key: str, most: int) -> list[TaskRow]:
        """Take tasks from a queue, up to the first task that avoids any worker."""
        heap = self._queues[key]
        found: list[TaskRow] = []
        while heap and len(found) < most:
            row = self._row(key, heap[0])
            if row is not None and row.avoid:
                break
            heappop(heap)
            # A task that was queued again may still have its old entry, which then comes next.
            if row is not None and not (found and row is found[-1]):
                found.append(row)
        if found:
            self._count(key, -len(found))
        return found

    def _best(self, keys: Iterable[str], worker_id: str, only: frozenset[str], now: int) -> TaskRow | None:
        """Take the first task that does not avoid the worker, over several queues and past tasks that avoid it."""
        skipped: list[tuple[str, _Entry]] = []
        found: TaskRow | None = None
        heads = [(head, key) for key in keys if key in self.waiting and (head := self._head(key)) is not None]
        while heads:
            first = min(heads) if len(heads) > 1 else heads[0]
            entry, key = first
            self._pop(key)
            row = self._tasks[entry[2]]
            if not row.avoid or not _avoids(row, worker_id, key in only, now):
                found = row
                break
            # A task that was queued again may still have its old entry; the task is skipped once.
            if (key, entry) not in skipped:
                skipped.append((key, entry))
            heads.remove(first)
            passed = sum(1 for other, _ in skipped if other == key)
            if passed <= LOOK_PAST and (following := self._head(key)) is not None:
                heads.append((following, key))
        for key, entry in skipped:
            self._push(key, entry)
        if found is not None:
            self.dequeued(found)
        return found

    def page(self, key: str, after: TaskRow | None, most: int) -> Sequence[TaskRow]:
        """The waiting tasks of a match key in queue order, at most `most`, after the task `after`.

        `after` may have left the queue. Stale entries at the head are dropped first, so a caller may move each page of
        a long queue to other keys before it asks for the next page.
        """
        found: list[TaskRow] = []
        if self._head(key) is None:
            return found
        place = _place(after) if after is not None else None
        for entry in _in_order(self._queues[key]):
            row = self._row(key, entry) if place is None or entry > place else None
            # A task that was queued again may still have its old entry, which then comes next.
            if row is not None and not (found and row is found[-1]):
                found.append(row)
                if len(found) == most:
                    break
        return found

    # Queues and counts -----------------------------------------------------------------------------------------

    def _head(self, key: str) -> _Entry | None:
        heap = self._queues.get(key)
        while heap:
            if self._row(key, heap[0]) is not None:
                return heap[0]
            self._pop(key)
        return None

    def _push(self, key: str, entry: _Entry) -> None:
        heappush(self._queues.setdefault(key, []), entry)

    def _pop(self, key: str) -> None:
        heappop(self._queues[key])

    def _count(self, key: str, by: int) -> None:
        count = self.waiting.get(key, 0)
        left = count + by
        if not left:
            # The remaining entries of the queue are stale.
            del self.waiting[key], self.needs[key], self._queues[key]
            return
        self.waiting[key] = left
        if by < 0 and len(self._queues[key]) > MOST_STALE + 2 * left:
            self._queues[key] = [entry for entry in self._queues[key] if self._row(key, entry) is not None]
            heapify(self._queues[key])

    def _row(self, key: str, entry: _Entry) -> TaskRow | None:
        """The task of a queue entry; None if the entry is stale."""
        row = self._tasks.get(entry[2])
        return row if row is not None and row.state is QUEUED and row.key == key else None


def _place(row: TaskRow) -> _Entry:
    return (-row.priority, row.n, row.id)


def _in_order(heap: Sequence[_Entry]) -> Iterator[_Entry]:
    """Yield the entries of a heap in order. It visits at most twice as many entries as the caller consumes."""
    ahead = [(heap[0], 0)]
    while ahead:
        entry, at = heappop(ahead)
        yield entry
        for child in range(2 * at + 1, min(2 * at + 3, len(heap))):
            heappush(ahead, (heap[child], child))


def _avoids(row: TaskRow, worker_id: str, only: bool, now: int) -> bool:
    return any(who == worker_id and until > now and not (only and how == SOFT) for who, until, how in row.avoid)
