"""The scheduler: makes the jobs of schedules when they are due, each once, however many nodes share the store.

A slot's job has a request id that every node makes of the same schedule and slot. So whoever asks for it first makes
it, and for all others, also after a restart, it is there already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import orjson

from holon.domain.client import SCHEDULER, Client
from holon.engine.jobs import Jobs
from holon.engine.reloading import Changes
from holon.engine.requests import Accepted, Creating
from holon.engine.schedules_file import Schedule
from holon.engine.timetable import said
from holon.errors import AlreadyExists, InvalidArgument, NotFound
from holon.telemetry.metrics import ScheduleMetrics
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

PLAN = "system"
# Nobody tells of a clock that was set, or of a machine that slept.
LOOK_EVERY_S = 30.0
# Between two tries to make a job, at least and at most.
_SOONEST_S = 1.0
_LATEST_S = 30.0
# What is made later than this is told as caught up.
_LATE_MS = 5_000


class _Plan:
    """A schedule, and until when its slots are settled: made, or given up.

    Attributes:
        next_at: the first slot that is not; it may be due.
        again_at: before this nothing is tried again, in epoch milliseconds.
    """

    def __init__(self, schedule: Schedule, settled: int) -> None:
        self.schedule = schedule
        self.settle(settled)

    def settle(self, until: int) -> None:
        self.settled = until
        self.next_at = self.schedule.timetable.next(until)
        self.again_at = 0

    def left(self, now: int) -> int:
        """How many milliseconds there is nothing to do for it."""
        # Where the time was set back, what was meant to be soon is not put off by that.
        again = self.again_at if self.again_at - now <= _LATEST_S * 1000 else 0
        return max(0, self.next_at - now, again - now)


class Scheduler:
    """Makes jobs by a set of schedules, which may be replaced at any time.

    Arguments:
        jobs: where they are made.
        now: the time that schedules go by, in epoch milliseconds; it may be set, and may jump.
        kept: for how long the store knows the jobs that are over, in milliseconds. What is later than that is given up:
            nobody could tell whether it was made.
    """

    def __init__(self, jobs: Jobs, now: Callable[[], int], kept: int) -> None:
        self.metrics = ScheduleMetrics()
        self._jobs = jobs
        self._now = now
        self._kept = kept
        self._plans: dict[str, _Plan] = {}
        self._taken = asyncio.Event()
        self._closed = False
        self._failed = Seldom(log)

    def __repr__(self) -> str:
        return f"Scheduler(schedules={len(self._plans)}, closed={self._closed})"

    @property
    def next(self) -> Mapping[str, int]:
        """The next slot of each schedule, in epoch milliseconds."""
        return {name: plan.next_at for name, plan in self._plans.items()}

    def check(self, schedule: Schedule) -> None:
        """Check what only the node knows: the blueprint, and that it takes the schedule's input.

        Raises:
            NotFound: there is no such blueprint.
            InvalidArgument: it does not take the input; the details name its parts.
        """
        self._jobs.check_for_schedule(asked_of(schedule, self._now()))

    def begin(self, schedules: Iterable[Schedule]) -> None:
        """Take the schedules of a node that starts: what was due just before is made now, the latest slot of each."""
        now = self._now()
        for schedule in schedules:
            latest = schedule.timetable.latest(now)
            self._plan(schedule, latest - 1 if latest >= now - schedule.catch_up else now)
        self._taken.set()

    def replace(self, schedules: Iterable[Schedule]) -> Changes:
        """Take other schedules, at once. Those that are new, or have other times, begin with what is due from now."""
        before, self._plans = self._plans, {}
        now = self._now()
        changes: list[tuple[str, str]] = []
        for schedule in schedules:
            known = before.pop(schedule.name, None)
            if known is not None and known.schedule == schedule:
                self._plans[schedule.name] = known
                continue
            same_times = known is not None and known.schedule.timetable == schedule.timetable
            self._plan(schedule, known.settled if known is not None and same_times else now)
            changes.append(("schedule_added" if known is None else "schedule_changed", schedule.name))
        self._taken.set()
        return [*changes, *(("schedule_removed", name) for name in before)]

    def close(self) -> None:
        """Make no more jobs: the node drains, and others, or its next run, make what is due from here on."""
        self._closed = True

    async def run(self) -> None:
        """Make what is due, until cancelled."""
        while True:
            self._taken.clear()
            pause = await self.look()
            try:
                async with asyncio.timeout(pause):
                    await self._taken.wait()
            except TimeoutError:
                pass

    async def look(self) -> float | None:
        """Make what is due now; return after how many seconds to look again, None: when there are other schedules."""
        if self._closed or not self._plans:
            return None
        now = self._now()
        await asyncio.gather(*(self._make(plan, now) for plan in self._plans.values() if self._is_due(plan, now)))
        now = self._now()
        return min(LOOK_EVERY_S, *(plan.left(now) / 1000 for plan in self._plans.values()))

    def _plan(self, schedule: Schedule, settled: int) -> None:
        plan = self._plans[schedule.name] = _Plan(schedule, settled)
        self.metrics.known(schedule.name)
        log.info(
            "schedule %s: %s, next at %s", schedule.name, schedule.timetable, said(schedule.timetable, plan.next_at)
        )

    def _is_due(self, plan: _Plan, now: int) -> bool:
        """Whether a slot is to be made now; only the latest is, and those before it are given up."""
        if now < plan.settled:
            # The time was set back. What was made since is there already when it is due again.
            plan.settle(now)
        if plan.left(now) > 0:
            return False
        slot = plan.schedule.timetable.latest(now)
        if slot != plan.next_at:
            self._missed(plan, "the next one is due")
            plan.settle(slot - 1)
        if now - slot > self._kept:
            self._missed(plan, "that is longer ago than ended jobs are kept (JOB_RETENTION)")
            plan.settle(slot)
            return False
        return True

    def _missed(self, plan: _Plan, why: str) -> None:
        self.metrics.slots.add(plan.schedule.name, "missed")
        due = said(plan.schedule.timetable, plan.next_at)
        log.warning("schedule %s: what was due at %s was not made, and %s", plan.schedule.name, due, why)

    async def _make(self, plan: _Plan, now: int) -> None:
        schedule, slot = plan.schedule, plan.next_at
        result, again_after = "failed", _LATEST_S
        name, due = schedule.name, said(schedule.timetable, slot)
        try:
            outcome = await self._jobs.create_for_schedule(_client(schedule, slot), asked_of(schedule, slot))
        except Exception:
            # Nothing that is wrong with one schedule is to end the node, or to keep others waiting.
            log.exception("schedule %s: the job that is due at %s cannot be made", name, due)
        else:
            if isinstance(outcome, Accepted | AlreadyExists):
                result = "made" if isinstance(outcome, Accepted) and not outcome.existing else "known"
            elif isinstance(outcome, NotFound | InvalidArgument):
                result = "refused"
                log.error("schedule %s: the job that is due at %s is refused: %s", name, due, outcome.message)
            else:
                again_after = outcome.again_after
                self._failed.warn("schedule %s: the job that is due cannot be made yet", name, why=outcome.message)
            if result == "made" and isinstance(outcome, Accepted):
                level = logging.INFO if now - slot > _LATE_MS else logging.DEBUG
                facts = {"job_id": outcome.job_id}
                log.log(level, "schedule %s: job %s is what was due at %s", name, outcome.job_id, due, extra=facts)
        self.metrics.slots.add(name, result)
        if result == "failed":
            plan.again_at = self._now() + round(min(max(again_after, _SOONEST_S), _LATEST_S) * 1000)
        else:
            plan.settle(slot)


def _source(schedule: Schedule) -> str:
    return f"scheduler:{schedule.name}"


def _client(schedule: Schedule, slot: int) -> Client:
    """Whose the job of a slot is, as its handlers know it."""
    return Client(SCHEDULER, PLAN, orjson.dumps({"source": _source(schedule), "due_at": slot // 1000}))


def asked_of(schedule: Schedule, slot: int) -> Creating:
    """The job of a slot, as it is asked for."""
    return Creating(
        schedule.blueprint,
        schedule.input_data,
        request_id=f"{schedule.name}@{slot // 1000}",
        dispatch_timeout=schedule.dispatch_timeout,
        result_timeout=schedule.result_timeout,
        source=_source(schedule),
    )
