"""Feeds: what is known of one watched job, read once and followed by any number of watchers at their own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias

from holon.domain.events import HistoryEvent
from holon.domain.log_lines import Logged
from holon.domain.value import Value, replace
from holon.errors import HolonError
from holon.ports import JobRecord

# Who is further behind than this reads from the store.
TAIL = 64
# So many messages of log lines wait for who reads slowly, of the newest.
MOST_LOGGED = 64


# Compared as the objects that they are: a door makes a message of each once, however many watchers it goes to.
class Seen(Value, eq=False, gc=True, weakref=True):
    """The job as it is; `message` is its progress message, `sequence` where to resume after."""

    sequence: int
    record: JobRecord
    message: str


class Happened(Value, eq=False, gc=True, weakref=True):
    """A line of the job's history."""

    sequence: int
    event: HistoryEvent


class Moved(Value, eq=False, gc=True, weakref=True):
    """How far the job is; only the newest is ever told. `queued`: nobody has its task, or any of its branches."""

    sequence: int
    percent: float | None
    message: str
    status: str
    state: str
    queued: bool = False

    def same(self, other: Moved) -> bool:
        """Whether another says the same."""
        return (self.percent, self.message, self.status, self.state, self.queued) == (
            other.percent,
            other.message,
            other.status,
            other.state,
            other.queued,
        )


class Idle(Value, eq=False, gc=True, weakref=True):
    """Nothing happened for a while."""

    sequence: int


class Wrote(Value, eq=False, gc=True, weakref=True):
    """A task of the job wrote lines of its log."""

    sequence: int
    logged: Logged


Update: TypeAlias = Seen | Happened | Moved | Wrote | Idle


class Wants(Enum):
    """What is told to one who follows a job: each line of its history, how far it is, or only that there is no more."""

    LINES = "lines"
    MOVES = "moves"
    END = "end"


class Feed:
    """The newest reading of one job, and the last lines of its history.

    Attributes:
        watchers: one event for each who follows, and what he wants; it is set when there is something new for him.
        opening: held while the feed is read for the first time.
        watched: whether the store hints at the job for it.
        awaited: whether somebody has the store hint at it from its first commit on, and waits for what is told then.
        sequence: the newest line of history that was read.
        moves: counts the changes of `moved`.
        over: whether the job is.
        failure: why there will be nothing more, if not by the job's end.
        logs: what is still to be told to each who wants to hear what tasks write in their logs, the newest of it.
        times, next_at: how often it was told without being read, and from when on it may be again, on the loop's clock.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.watchers: dict[asyncio.Event, Wants] = {}
        self._readers = 0
        self.opening = asyncio.Lock()
        self.watched = False
        self.awaited = False
        self.seen: Seen | None = None
        self.moved: Moved | None = None
        self.moves = 0
        self.sequence = 0
        self.over = False
        self.failure: HolonError | None = None
        self.logs: dict[asyncio.Event, deque[Logged]] = {}
        self.times = 0
        self.next_at = 0.0
        self._tail: deque[Happened] = deque(maxlen=TAIL)

    def __repr__(self) -> str:
        return f"Feed({self.job_id}, sequence={self.sequence}, watchers={len(self.watchers)})"

    @property
    def lines_wanted(self) -> bool:
        """Whether anybody wants lines."""
        return self._readers > 0

    def join(self, watcher: asyncio.Event, wants: Wants) -> None:
        """One more follows."""
        self.watchers[watcher] = wants
        self._readers += wants is Wants.LINES

    def hear_logs(self, watcher: asyncio.Event) -> deque[Logged]:
        """One who follows is told what is said in logs too: what there is for him to take."""
        return self.logs.setdefault(watcher, deque(maxlen=MOST_LOGGED))

    def log(self, logged: Logged) -> None:
        """A task of the job wrote lines of its log."""
        for watcher, kept in self.logs.items():
            kept.append(logged)
            watcher.set()

    def leave(self, watcher: asyncio.Event) -> None:
        """He follows no more."""
        self._readers -= self.watchers.pop(watcher) is Wants.LINES
        self.logs.pop(watcher, None)

    def take(self, record: JobRecord, message: str, lines: Sequence[tuple[int, HistoryEvent]] | None) -> None:
        """A new reading: the job, and the lines that came since the last one, as far as the tail is long.

        None: they were not read; whoever wants them reads them himself.
        """
        job = record.job
        # What handlers work on is large, and no watcher sees it.
        record = replace(record, job=replace(job, initial_data={}, state_history={}))
        if lines is None:
            if record.sequence != self.sequence:
                self._tail.clear()
                self.sequence = record.sequence
        elif lines:
            if lines[0][0] != self.sequence + 1:
                self._tail.clear()
            self._tail.extend(Happened(number, event) for number, event in lines)
            self.sequence = lines[-1][0]
        self.seen = Seen(self.sequence, record, message)
        self.over = job.status.terminal
        queued = record.queued_need is not None or record.again_at is not None
        moved = Moved(self.sequence, record.progress, message, job.status.value, job.current_state, queued)
        if self.moved is None or not moved.same(self.moved):
            self.moves += 1
        self.moved = moved
        self.wake()

    def fail(self, error: HolonError) -> None:
        """There will be nothing more."""
        self.failure = error
        self.wake()

    def wake(self) -> None:
        """Tell who follows that there is something new for him."""
        over = self.over or self.failure is not None
        for watcher, wants in self.watchers.items():
            if over or wants is not Wants.END:
                watcher.set()

    def close(self) -> None:
        """Tell all who follow that the node closes."""
        for watcher in self.watchers:
            watcher.set()

    def after(self, sequence: int) -> Sequence[Happened] | None:
        """The lines after this one; None when some of them are no longer kept here."""
        missing = self.sequence - sequence
        if missing > len(self._tail):
            return None
        return list(self._tail)[len(self._tail) - missing :] if missing > 0 else []
