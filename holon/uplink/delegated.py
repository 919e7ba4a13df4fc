"""The uplink: one task of the parent's while its job runs: followed to its end, and stopped when it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntEnum

from holon.domain.job import Job, Status
from holon.domain.log_lines import Logged
from holon.engine.following import Following
from holon.engine.jobs import Jobs
from holon.engine.stopping import cancel
from holon.engine.told_above import Extent, extent_of
from holon.engine.waits import is_wait_below
from holon.ports import JobRecord
from holon.uplink.delegation import Delegation
from holon.uplink.stopping import Why

# Only the result says that all is done.
_MOST_BEFORE_RESULT = 99.0
# All that is said of why a task waits, where a holon discloses nothing of how its jobs are done.
WAITING = "waiting in a holon below"


class Stage(IntEnum):
    """How far a job of the parent's is. No stage goes back to one before it.

    GOES_ON: it runs, as far as is known. STOPS: it is being cancelled, and cleans up. ENDS: it is over, and nothing is
    done to it any more; its end is being told, however long that takes.
    """

    GOES_ON = 0
    STOPS = 1
    ENDS = 2


_ENDS = Stage.ENDS


class Delegated:
    """A job of the parent's, here.

    Arguments:
        entry: which task it does.
        progress: told how far the job is, in percent, and in words.
        placed: called when `unplaced` or `fanned` changes.
        happened: called when anything of a job that runs may have changed.
        ended: called with the job once it is over; None when it is gone.
        logged: told what its tasks write in their logs.
        occurred: called when there are more events in its history.
        passed: how far it was already, in percent, as far as another node or an earlier link may have told.
        in_words: whether `progress` is told what workers say, and why tasks wait; else how far the job is in percent,
            and that it waits.

    Attributes:
        unplaced: whether it has yet to take a place: nothing is known of it yet, or its task waits for a worker.
        was_placed: whether a worker has begun a task of it, as far as was seen.
        fanned: whether it waits for the tasks of a fan-out, of which that is not seen.
        part_waits: whether it waits for a part of it, which says that it waits itself.
        stage: how far it is.
        why: the reason why it is cancelled; None: it is not, by the uplink.
        reason: the same, in words, where there are some.
        extent: how far its history goes, as it was when there were more events in it.
        over: set once the job has ended, and what is to be told of it has been.
    """

    def __init__(
        self,
        jobs: Jobs,
        following: Following,
        entry: Delegation,
        progress: Callable[[Delegation, float | None, str], None],
        placed: Callable[[], None],
        happened: Callable[[Delegation], None],
        ended: Callable[[Delegated, JobRecord | None], None],
        logged: Callable[[Delegation, Logged], None],
        occurred: Callable[[Delegated], None],
        passed: float = 0.0,
        *,
        in_words: bool = True,
    ) -> None:
        self.entry = entry
        self.stage = Stage.GOES_ON
        self.why: Why | None = None
        self.reason = ""
        self.over = asyncio.Event()
        self._jobs = jobs
        self._following = following
        self.unplaced = True
        self.was_placed = False
        # Of which step a task was with a worker last, who may have given it back unbegun.
        self._placed_at: int | None = None
        self.fanned = False
        self.part_waits = False
        self._progress = progress
        self._said: tuple[float | None, str] = (None, "")
        self._placed = placed
        self._happened = happened
        self._ended = ended
        self._logged = logged
        self._occurred = occurred
        self.extent = Extent()
        self._percent = min(passed, _MOST_BEFORE_RESULT)
        self._in_words = in_words
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"Delegated({self.entry.task_id}, job_id={self.entry.job_id}, {self.stage.name}, why={self.why})"

    def stops(self, why: Why) -> bool:
        """It is to be cancelled; False: that is so already, or it is over."""
        if self.stage is not Stage.GOES_ON:
            return False
        self.stage, self.why = Stage.STOPS, why
        return True

    def limit(self, seconds: float | None, passed: Callable[[], None]) -> None:
        """Have `passed` called after so many seconds, unless it is over by then; None: never."""
        self._after("limit", seconds, passed)

    def soon(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something else done after so many seconds, unless it is over by then; the newest counts."""
        self._after("soon", seconds, call)

    def _after(self, name: str, seconds: float | None, call: Callable[[], None]) -> None:
        if self.stage >= _ENDS:
            return
        if (before := self._timers.pop(name, None)) is not None:
            before.cancel()
        if seconds is not None:
            self._timers[name] = asyncio.get_running_loop().call_later(max(0.0, seconds), call)

    def follow(self) -> None:
        """See the job to its end, which `ended` is told once, perhaps before this returns. Then `leave` it."""
        self._following.follow(self.entry.job_id, self._seen, self._wrote)

    def _seen(self, record: JobRecord | None) -> None:
        if self.stage >= _ENDS:
            return
        if record is None or record.job.status.terminal:
            self.stage = _ENDS
            self._stop_timers()
            self._ended(self, record)
            return
        self._happened(self.entry)
        if record.job.events > self.extent.events:
            self.extent = extent_of(record)
            self._occurred(self)
        self._tell(self._jobs.percent(record), self._words(record))
        self._place(record.queued_need is not None, record.job)

    def _wrote(self, logged: Logged) -> None:
        if self.stage < _ENDS and self._in_words:
            self._logged(self.entry, logged)

    def _words(self, record: JobRecord) -> str:
        message = self._jobs.progress_message(record)
        further = is_wait_below(message)
        self.part_waits = further and record.job.status is Status.WAITING_FOR_CHILD
        if not self._in_words:
            return WAITING if further or (message and record.waits) else ""
        # Why its own task waits it says of its own workers: above, others are looked for. So it does of its parts, but
        # what comes from further down says that already.
        here = message.startswith("in job ") if further else message and record.waits
        return f"in a holon below: {message}" if here else message

    def leave(self) -> None:
        """See to the job no more: its end is told, or somebody else sees to it."""
        self.stage = _ENDS
        self._following.leave(self.entry.job_id)
        self._stop_timers()

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tell(self, percent: float | None, message: str) -> None:
        """What goes up never falls, and is not all before the result."""
        if percent is not None:
            percent = self._percent = max(min(percent, _MOST_BEFORE_RESULT), self._percent)
        if (percent, message) == self._said:
            return
        before, self._said = self._said, (percent, message)
        self._say(taken_back=bool(before[1]) and not message)

    @property
    def placeless(self) -> bool:
        """Whether it has no place: it has yet to take one, or is over, and the place is for the next job."""
        return self.unplaced or self.stage >= _ENDS

    @property
    def came_back(self) -> bool:
        """Whether its task waits again that a worker had before, as far as was seen."""
        return self.unplaced and self._placed_at is not None

    def say_again(self) -> None:
        """The parent may not have heard what was said last."""
        self._say(taken_back=not self._said[1])

    def _say(self, *, taken_back: bool) -> None:
        percent, message = self._said
        if taken_back:
            # Where nothing else comes with it, an empty message takes back the one before, such as why it waits.
            self._progress(self.entry, None, "")
        if message or percent is not None:
            self._progress(self.entry, percent, message)

    def _place(self, queued: bool, job: Job) -> None:
        status = job.status
        self.was_placed |= self._placed_at not in (None, job.step)
        if not queued and status == Status.WAITING_FOR_WORKER:
            self._placed_at = job.step
        before = self.unplaced, self.fanned
        fanned = status == Status.WAITING_FOR_PARALLEL
        self.unplaced, self.fanned = queued and not fanned, fanned
        if before != (self.unplaced, self.fanned):
            self._placed()

    async def ended(self, seconds: float) -> bool:
        """Wait so long for the end; whether it has come."""
        try:
            async with asyncio.timeout(seconds):
                await self.over.wait()
        except TimeoutError:
            return False
        return True

    async def cancel(self, by: str, *, insist: bool) -> None:
        """Cancel the job; returns once that is asked for, or it is over anyway.

        Arguments:
            by: who asks, or why; empty: the parent.
            insist: whether it is to end at once if it cleans up already, as after a cancel that another node asked for.
        """
        entry = self.entry
        await cancel(self._jobs, entry.owner, entry.job_id, by, insist=insist, facts=entry.facts)
