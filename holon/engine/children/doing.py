"""Children: one task of a job above, while another job does it: made or found, followed to its end, and stopped."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

import orjson

from holon.domain.children import JOB_ABOVE, Part, part_of, request_of
from holon.domain.client import Client
from holon.domain.ends import PartEnded, part_ended
from holon.domain.events import Occurred
from holon.domain.log_lines import Logged
from holon.domain.task import CANCELLED, FAILURE, Outcome, TaskError
from holon.engine.blueprints import Blueprints
from holon.engine.children.taken import Taken
from holon.engine.following import Following
from holon.engine.history_reader import HistoryReader
from holon.engine.jobs import Jobs
from holon.engine.payloads import decode
from holon.engine.requests import Creating
from holon.engine.stopping import cancel
from holon.engine.told_above import EventsOfJob, Extent, extent_of, lines_above
from holon.errors import AlreadyExists, HolonError, InvalidArgument, NotFound
from holon.ports import JobRecord, Offer, Storage
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Here:
    """Where parts of jobs are done: what of the node they need.

    `cleanup` is seconds. `reader` has what is told of them, and `taken` knows what was told already. `turn` is had by
    those whose jobs are being made; `away` is told what the store does not take.
    """

    store: Storage
    jobs: Jobs
    blueprints: Blueprints
    following: Following
    holon_id: str
    cleanup: float
    reader: HistoryReader
    taken: Taken
    turn: asyncio.Semaphore
    away: Seldom


class Doing:
    """A task of a job above, and the job that does it.

    Arguments:
        said: told how far it is, in percent, and in words.
        logged: told what its tasks write in their logs.
        occurred: called when there are more events in its history; then `tell` tells of them.
        ended: told how it ended, once, and with what it cost.

    Attributes:
        offer: under which lease it is done.
        stops: whether the job above needs it no more.
    """

    def __init__(
        self,
        here: Here,
        offer: Offer,
        said: Callable[[Doing, float | None, str], None],
        logged: Callable[[Doing, Logged], None],
        occurred: Callable[[Doing], None],
        ended: Callable[[Doing, Outcome, JobRecord | None], None],
    ) -> None:
        self.offer = offer
        self.stops = False
        self._here = here
        self._said = said
        self._logged = logged
        self._occurred = occurred
        self._ended = ended
        self._part: Part = part_of(decode(offer.params, "the params"))
        self._owner = ""
        self._began = time.monotonic()
        # Whether somebody may have told of it before.
        self._was_there = False
        # How far its history goes, as far as was seen; and who tells of the events in it.
        self._extent = Extent()
        self._teller: EventsOfJob | None = None
        self._told: tuple[float | None, str] = (None, "")
        self._followed = False
        # It is known whether there is a job; and it is over, or somebody else sees to it.
        self._made = asyncio.Event()
        self._over = asyncio.Event()

    def __repr__(self) -> str:
        return f"Doing({self.offer.task_id}, job_id={self._part.job_id}, over={self._over.is_set()})"

    @property
    def facts(self) -> dict[str, str]:
        """For the log."""
        return {"task_id": self.offer.task_id, "job_id": self._part.job_id}

    async def begin(self) -> None:
        """Make the job, or find the one that is there, and follow it; what refuses it ends the task."""
        following, job_id = self._here.following, self._part.job_id
        following.expect(job_id)
        try:
            refused = await self._make()
        except BaseException:
            following.leave(job_id)
            raise
        if refused is None and not self._over.is_set():
            self._followed = True
            following.follow(job_id, self._seen, logged=self._wrote)
        else:
            following.leave(job_id)
            if refused is not None and not self._over.is_set():
                self._end(refused, None)
        self._made.set()

    async def _make(self) -> Outcome | None:
        """None where the job is there, or somebody else sees to it; else how the task ends without it."""
        while not self._over.is_set():
            try:
                # Not while one waits: others could not be made for it.
                async with self._here.turn:
                    return await self._made_once()
            except HolonError as error:
                self._here.away.warn("job %s is created later", self._part.job_id, why=error.message, **self.facts)
                with suppress(TimeoutError):
                    async with asyncio.timeout(error.again_after):
                        await self._over.wait()
        return None

    async def _made_once(self) -> Outcome | None:
        """As `_make`; raises a HolonError where it is to be tried again."""
        above = await self._here.store.job(self.offer.job_id)
        if above is None or self._part.job_id not in above.job.parts or above.job.status.terminal:
            return Outcome(CANCELLED)
        self._owner = above.job.owner
        owner = Client(above.job.owner, above.job.plan, above.job.client_params)
        [made] = await self._here.jobs.create_all(owner, [self._creating(above)], self._here.blueprints.for_jobs)
        if isinstance(made, NotFound | InvalidArgument | AlreadyExists):
            code = "INVALID_INPUT_ERROR" if isinstance(made, InvalidArgument) else made.code
            return Outcome.failed(code, made.message)
        if isinstance(made, HolonError):
            raise made
        self._was_there = made.existing
        return None

    def _creating(self, above: JobRecord) -> Creating:
        job, part = above.job, self._part
        return Creating(
            part.blueprint,
            part.initial_data,
            request_of(self.offer.task_id),
            _seconds(part.dispatch_timeout, job.dispatch_timeout),
            _seconds(part.result_timeout, job.result_timeout),
            trace=self.offer.trace,
            priority=job.priority,
            job_id=part.job_id,
            allowed_skills=job.allowed_skills,
            budget=self.offer.max_cost,
            deadline=None if job.cancelling else job.deadline,
            parent_job_id=job.id,
            depth=job.depth + 1,
            default_priority=job.default_priority or None,
        )

    def _seen(self, record: JobRecord | None) -> None:
        if self._over.is_set():
            return
        before, self._extent = self._extent, Extent() if record is None else extent_of(record)
        if record is None:
            self._end(Outcome.failed("PERMANENT_ERROR", f"job {self._part.job_id} no longer exists"), None)
        elif record.job.status.terminal:
            self._end(self._outcome(record), record)
        else:
            if self._extent.events > before.events:
                self._occurred(self)
            self._tell(record)

    def _outcome(self, record: JobRecord) -> Outcome:
        job = record.job
        blueprint = self._here.blueprints.get(job.blueprint)
        state = None if blueprint is None else blueprint.states.get(job.current_state)
        late = job.deadline is not None and (record.finished_at or 0) >= job.deadline
        return outcome_of(part_ended(job, state, self._here.holon_id, out_of_time=late))

    def _wrote(self, logged: Logged) -> None:
        if not self._over.is_set():
            lines = lines_above(logged, self._part.job_id)
            self._logged(self, Logged(self.offer.task_id, self.offer.attempt, lines))

    async def tell(self, put: Callable[[Sequence[Occurred]], Awaitable[None]], *, last: bool = False) -> None:
        """Tell the job above of what happened, as far as it was seen and not told yet; see `EventsOfJob.tell`."""
        if not self._extent.events:
            return
        if self._teller is None:
            taken = self._taken if self._was_there else None
            self._teller = EventsOfJob(self._here.reader, self._part.job_id, taken=taken)
        await self._teller.tell(self.offer.task_id, self.offer.lease_id, self._extent, put, last=last)

    async def _taken(self) -> AbstractSet[int]:
        return await self._here.taken.by(self.offer.job_id, self.offer.task_id, self._began)

    def _tell(self, record: JobRecord) -> None:
        jobs = self._here.jobs
        message = jobs.progress_message(record)
        told = jobs.percent(record), f"in job {record.job.id}: {message}" if message and record.waits else message
        if told != self._told:
            self._told = told
            self._said(self, *told)

    def _end(self, outcome: Outcome, record: JobRecord | None) -> None:
        self.leave()
        self._ended(self, outcome, record)

    def leave(self) -> None:
        """See to it no more: its end is told, or somebody else sees to it."""
        self._over.set()
        self._made.set()
        if self._teller is not None:
            self._teller.leave()
        if self._followed:
            self._here.following.leave(self._part.job_id)

    async def stop(self) -> None:
        """The job above needs it no more: cancel it, and end it where it cleans up for too long."""
        await self._made.wait()
        insist = False
        while not self._over.is_set():
            owner = Client(self._owner)
            await cancel(self._here.jobs, owner, self._part.job_id, JOB_ABOVE, insist=insist, facts=self.facts)
            try:
                async with asyncio.timeout(self._here.cleanup):
                    await self._over.wait()
            except TimeoutError:
                job_id = self._part.job_id
                log.warning("job %s took too long for its clean-up, and is ended", job_id, extra=self.facts)
                insist = True


def outcome_of(end: PartEnded) -> Outcome:
    """An end as the outcome of a task. Its data is as JSON has it, whatever the handler returned: it was stored."""
    if end.status != FAILURE:
        return Outcome(end.status, b"" if end.data is None else orjson.dumps(end.data))
    details = b"" if end.details is None else orjson.dumps(end.details)
    return Outcome(FAILURE, error=TaskError(end.code, end.message, details))


def _seconds(asked: float | None, above: int | None) -> float | None:
    """A timeout of the new job's tasks, in seconds: what is asked for, else that of the job above."""
    return above / 1000 if asked is None and above is not None else asked
