"""The scheduler: makes the jobs of schedules when they are due, each once, however many nodes share the store.

A slot's job has a request id that every node makes of the same schedule and slot. So whoever asks for it first makes
it, and for all others, also after a restart, it is there already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import orjson

from holon.domain.client import SCHEDULER, Client
from holon.engine.jobs import Jobs
from holon.engine.reloading import Changes
from holon.engine.requests import Accepted, Creating
from holon.engine.schedules_file import Schedule
from holon.engine.timetable import said
from holon.errors import AlreadyExists, HolonError, InvalidArgument, NotFound, StoreUnavailable
from holon.ports import Storage
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
        store: where they then are.
        now: the time that schedules go by, in epoch milliseconds; it may be set, and may jump.
        kept: for how long the store knows the jobs that are over, in milliseconds. What is later than that is given up:
            nobody could tell whether it was made.
    """

    def __init__(self, jobs: Jobs, store: Storage, now: Callable[[], int], kept: int) -> None:
        self.metrics = ScheduleMetrics()
        self._jobs = jobs
        self._store = store
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
            self._plan(schedule, latest - 1 if latest >= now - schedule.catch_up else now, now)
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
            self._plan(schedule, known.settled if known is not None and same_times else now, now)
            changes.append(("schedule_added" if known is None else "schedule_changed", schedule.name))
        self._taken.set()
        return [*changes, *(("schedule_removed", name) for name in before)]

    def look_again(self) -> None:
        """The time has jumped: make what is due now."""
        self._taken.set()

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
        return min(LOOK_EVERY_S, min((plan.left(now) for plan in self._plans.values()), default=0) / 1000)

    def _plan(self, schedule: Schedule, settled: int, now: int) -> None:
        self._plans[schedule.name] = _Plan(schedule, settled)
        self.metrics.known(schedule.name)
        next_at = said(schedule.timetable, schedule.timetable.next(now))
        log.info("schedule %s: %s, next job at %s", schedule.name, schedule.timetable, next_at)

    def _is_due(self, plan: _Plan, now: int) -> bool:
        if now < plan.settled:
            # The time was set back. What was made since is there already when it is due again.
            plan.settle(now)
        return plan.left(now) <= 0

    async def _make(self, plan: _Plan, now: int) -> None:
        """Make the job of the latest slot; those before it are given up."""
        try:
            slot = plan.schedule.timetable.latest(now)
            if slot != plan.next_at:
                if not await self._was_made(plan):
                    self._missed(plan, "the next one is already due")
                plan.settle(slot - 1)
            if now - slot > self._kept:
                self._missed(plan, "it was due longer ago than ended jobs are kept (JOB_RETENTION)")
                plan.settle(slot)
                return
            create = self._jobs.create_for_schedule
            outcome = await create(_client(plan.schedule, slot), asked_of(plan.schedule, slot))
            result = self._result(plan, outcome)
            if result != "failed":
                plan.settle(slot)
            else:
                asked = outcome.again_after if isinstance(outcome, HolonError) else _LATEST_S
                self._put_off(plan, min(max(asked, _SOONEST_S), _LATEST_S))
        except Exception:
            # Nothing that is wrong with one schedule is to end the node, or to keep others waiting.
            log.exception("schedule %s: the due job cannot be created", plan.schedule.name)
            result = "failed"
            with suppress(Exception):
                # What is wrong may be its times.
                self._put_off(plan, _LATEST_S)
        self.metrics.slots.add(plan.schedule.name, result)

    def _put_off(self, plan: _Plan, pause: float) -> None:
        """Try again after so many seconds, or at the next slot, which waits for nobody."""
        plan.again_at = self._now() + round(pause * 1000)
        plan.again_at = min(plan.again_at, plan.schedule.timetable.next(plan.next_at))

    async def _was_made(self, plan: _Plan) -> bool:
        """Whether another node has made what this one did not, as far as can be told now."""
        try:
            return await self._store.made(SCHEDULER, _request_id(plan.schedule, plan.next_at)) is not None
        except StoreUnavailable:
            return False

    def _missed(self, plan: _Plan, why: str) -> None:
        name, due = plan.schedule.name, said(plan.schedule.timetable, plan.next_at)
        self.metrics.slots.add(name, "missed")
        log.warning("schedule %s: the job due at %s was skipped: %s", name, due, why)

    def _result(self, plan: _Plan, outcome: Accepted | HolonError) -> str:
        """What became of the slot that is due, for the figures; it is told in the log here."""
        name, due = plan.schedule.name, said(plan.schedule.timetable, plan.next_at)
        if isinstance(outcome, Accepted) and not outcome.existing:
            level = logging.INFO if self._now() - plan.next_at > _LATE_MS else logging.DEBUG
            facts = {"job_id": outcome.job_id}
            log.log(level, "schedule %s: job %s was created for %s", name, outcome.job_id, due, extra=facts)
            return "made"
        # Made of another node's file, it may be of other input.
        if isinstance(outcome, Accepted | AlreadyExists):
            return "known"
        if isinstance(outcome, NotFound | InvalidArgument):
            log.error("schedule %s: the job due at %s was refused: %s", name, due, outcome.message)
            return "refused"
        self._failed.warn("schedule %s: the due job cannot be created yet", name, why=outcome.message)
        return "failed"


def _source(schedule: Schedule) -> str:
    return f"scheduler:{schedule.name}"


def _client(schedule: Schedule, slot: int) -> Client:
    """Whose the job of a slot is, as its handlers know it."""
    return Client(SCHEDULER, PLAN, orjson.dumps({"source": _source(schedule), "due_at": slot // 1000}))


def _request_id(schedule: Schedule, slot: int) -> str:
    return f"{schedule.name}@{slot // 1000}"


def asked_of(schedule: Schedule, slot: int) -> Creating:
    """The job of a slot, as it is asked for."""
    return Creating(
        schedule.blueprint,
        schedule.input_data,
        request_id=_request_id(schedule, slot),
        dispatch_timeout=schedule.dispatch_timeout,
        result_timeout=schedule.result_timeout,
        source=_source(schedule),
    )
