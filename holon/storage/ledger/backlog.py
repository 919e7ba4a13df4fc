"""The ledger: the tasks that wait for a lease, a queue for each match key, by priority and arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from holon.domain.matching import Need
from holon.storage.ledger.rows import TaskRow, TaskState

# A task looks past this many tasks of a queue that avoid the worker at hand, then gives up on the queue.
LOOK_PAST = 16
# A queue is rid of its stale entries when it has so many, beside twice those that may count.
MOST_STALE = 1_000


class Backlog:
    """Queues that are cleaned lazily: an entry counts only while its task agrees with it.

    Arguments:
        tasks: the rows of all tasks that are not over.
        undo: where it is left how to take a change back.
        hint: is told of match keys whose tasks may be leased.

    Attributes:
        needs: by match key, what the tasks behind it need, while any waits.
        waiting: by match key, how many wait.
    """

    def __init__(
        self, tasks: Mapping[str, TaskRow], undo: list[Callable[[], object]], hint: Callable[[str], None]
    ) -> None:
        self.needs: dict[str, Need] = {}
        self.waiting: dict[str, int] = {}
        self._queues: dict[str, list[tuple[float, int, str]]] = {}
        self._tasks = tasks
        self._undo = undo
        self._hint = hint

    @property
    def entries(self) -> int:
        """How many entries there are, those included that do not count any more."""
        return sum(map(len, self._queues.values()))

    def enqueue(self, row: TaskRow) -> None:
        """Put an edited task into the queue of its match key, at the place of its priority and first arrival."""
        self.needs.setdefault(row.key, row.need)
        self._count(row.key, 1)
        self._push(row.key, (-row.priority, row.n, row.id))
        self._hint(row.key)

    def dequeued(self, row: TaskRow) -> None:
        """A task has left its queue, by whatever way."""
        self._count(row.key, -1)

    def best(self, keys: Iterable[str], worker_id: str, only: frozenset[str], now: int) -> TaskRow | None:
        """Take the first task of these queues that does not avoid the worker; it is no longer queued afterwards."""
        skipped: list[tuple[str, tuple[float, int, str]]] = []
        found: TaskRow | None = None
        heads = [(head, key) for key in keys if self.waiting.get(key) and (head := self._head(key)) is not None]
        while heads and found is None:
            first = min(heads) if len(heads) > 1 else heads[0]
            entry, key = first
            self._pop(key)
            row = self._tasks[entry[2]]
            if not row.avoid or not _avoids(row, worker_id, key in only, now):
                found = row
                break
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

    def queued(self, key: str) -> Iterator[TaskRow]:
        """The tasks that wait in the queue of a match key, in no order."""
        # One that came back can have left its old entry behind.
        waiting = {entry[2] for entry in self._queues.get(key, ()) if self._queued(key, entry)}
        return (self._tasks[task] for task in waiting)

    def _head(self, key: str) -> tuple[float, int, str] | None:
        heap = self._queues.get(key, [])
        while heap:
            if self._queued(key, heap[0]):
                return heap[0]
            self._pop(key)
        return None

    def _push(self, key: str, entry: tuple[float, int, str]) -> None:
        heappush(self._queues.setdefault(key, []), entry)

    def _pop(self, key: str) -> None:
        heap = self._queues[key]
        entry = heappop(heap)
        self._undo.append(lambda: self._push(key, entry))

    def _count(self, key: str, by: int) -> None:
        left = self.waiting.get(key, 0) + by
        if not left:
            self._forget_key(key)
            return
        self.waiting[key] = left
        self._undo.append(lambda: self._uncount(key, by))
        if by < 0 and len(self._queues[key]) > MOST_STALE + 2 * left:
            heap = self._queues[key]
            self._queues[key] = [entry for entry in heap if self._queued(key, entry)]
            heapify(self._queues[key])
            self._undo.append(lambda: self._queues.__setitem__(key, heap))

    def _uncount(self, key: str, by: int) -> None:
        self.waiting[key] -= by
        if not self.waiting[key]:
            del self.waiting[key]

    def _forget_key(self, key: str) -> None:
        """No task waits behind a match key any more: what is left of its queue is stale."""
        waiting, need, heap = self.waiting.pop(key), self.needs.pop(key), self._queues.pop(key, [])
        self._undo.append(lambda: self._restore_key(key, waiting, need, heap))

    def _restore_key(self, key: str, waiting: int, need: Need, heap: list[tuple[float, int, str]]) -> None:
        self.waiting[key], self.needs[key], self._queues[key] = waiting, need, heap

    def _queued(self, key: str, entry: tuple[float, int, str]) -> bool:
        """Whether an entry of a queue still counts."""
        row = self._tasks.get(entry[2])
        return row is not None and row.state is TaskState.QUEUED and row.key == key


def _avoids(row: TaskRow, worker_id: str, only: bool, now: int) -> bool:
    return any(who == worker_id and until > now and not (only and soft) for who, until, soft in row.avoid)
