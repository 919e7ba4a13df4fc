"""One claim, run: events taken in, handlers called, each step committed, until nothing is left to do."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any

import orjson

from holon.context import ActionFactory, JobContext, arguments
from holon.domain import machine
from holon.domain.blueprint import State
from holon.domain.events import CancelRequested, HistoryEvent, InboxEvent, TaskEnded
from holon.domain.job import Job, JobError, Status
from holon.domain.machine import Change, Limits
from holon.domain.task import TaskSpec
from holon.engine.blueprints import Blueprints
from holon.engine.dispatcher import Dispatcher
from holon.engine.needs import Needs
from holon.engine.payloads import decode, encode
from holon.engine.slots import Slots
from holon.errors import HolonError, InvalidArgument, TooLarge
from holon.ports import Claim, Committed, NewFanOut, NewTask, Step, Storage
from holon.randomness import random_id

log = logging.getLogger(__name__)

# The branches of a large fan-out that become tasks together.
CHUNK = 200


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds the executor: each job's machine, its deliveries, and bytes of one task's params."""

    machine: Limits
    max_deliveries: int
    max_payload: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run of a job needs of the node; one object for all lanes."""

    store: Storage
    slots: Slots
    blueprints: Blueprints
    needs: Needs
    dispatcher: Dispatcher
    bounds: Bounds


class Run:
    """The run of one claim. What it decided before a lost commit is dropped: whoever claims next decides again."""

    def __init__(self, tools: Tools, claim: Claim) -> None:
        self._tools = tools
        self._claim = claim
        self._job = claim.job
        self._events: deque[tuple[int, InboxEvent]] = deque(claim.events)
        self._consumed: list[int] = []

    async def go(self) -> None:
        """Run steps until the claim ends.

        Raises:
            StoreUnavailable: a step could not be stored; the claim is left to expire.
        """
        if self._claim.deliveries > self._tools.bounds.max_deliveries:
            await self._commit(self._crashed())
            return
        while await self._step():
            pass

    async def _step(self) -> bool:
        """One step; whether to go on with the claim."""
        change = self._take_events()
        if change is None and not self._job.status.due:
            if self._consumed:
                return await self._commit(Change(self._job))
            await self._tools.store.release([(self._job.id, self._claim.claim_id)])
            return False
        job = change.job if change else self._job
        if job.status.due:
            handled = await self._handle(job, change)
            change = replace(handled, end_tasks=True) if change and change.end_tasks else handled
        assert change is not None  # noqa: S101  a job that is not due has an event here
        try:
            return await self._commit(change)
        except InvalidArgument as error:
            unstorable = self._unstorable(job, error)
            return await self._commit(replace(unstorable, end_tasks=change.end_tasks))

    def _take_events(self) -> Change | None:
        """React to what came in, until there is a change; a cancel goes first."""
        cancel = next((entry for entry in self._events if isinstance(entry[1], CancelRequested)), None)
        while cancel is not None or (self._events and not self._job.status.due):
            if cancel is not None:
                self._events.remove(cancel)
            number, event = cancel or self._events.popleft()
            cancel = None
            self._consumed.append(number)
            change = self._react(event)
            if change is not None:
                return change
        return None

    def _react(self, event: InboxEvent) -> Change | None:
        data: Any = {}
        details: Any = None
        if isinstance(event, TaskEnded):
            data = decode(event.outcome.data, "the data of a result") or {}
            details = decode(event.outcome.error.details, "the details of an error") if event.outcome.error else None
        return machine.react(self._job, event, data, details, self._now())

    async def _handle(self, job: Job, reacted: Change | None) -> Change:
        """Run the handler of the job's state; what it raises is its job's failure, not ours."""
        limits = self._tools.bounds.machine
        before = (*(reacted.history if reacted else ()), machine.started(job, self._now()))
        began = time.perf_counter()
        # What a handler changes counts only if its step is stored: it works on a copy.
        initial_data, state_history = orjson.loads(orjson.dumps((job.initial_data, job.state_history)))
        actions = ActionFactory()
        try:
            state = self._state(job)
            context = JobContext(
                job_id=job.id,
                blueprint_name=job.blueprint,
                current_state=job.current_state,
                initial_data=initial_data,
                state_history=state_history,
                aggregation_results=await self._branches(job),
                actions=actions,
            )
            returned = await state.function(**arguments(state, context))
            return machine.decide(
                job,
                state,
                actions.decision,
                returned,
                limits,
                self._now(),
                _ms(began),
                state_history=state_history,
                before=before,
            )
        except (Exception, SystemExit) as error:
            code = error.code if isinstance(error, HolonError) else "HANDLER_ERROR"
            message = error.message if isinstance(error, HolonError) else f"{type(error).__name__}: {error}"
            log.warning(
                "job %s: handler of state %s failed: %s",
                job.id,
                job.current_state,
                message,
                exc_info=not isinstance(error, HolonError),
                extra={"job_id": job.id},
            )
            return self._failed(job, JobError(code, message), _ms(began), before)

    def _state(self, job: Job) -> State:
        blueprint = self._tools.blueprints.get(job.blueprint)
        if blueprint is None:
            raise HolonError(f"this node has no blueprint named {job.blueprint!r}", code="BLUEPRINT_NOT_FOUND")
        state = blueprint.states.get(job.current_state)
        if state is None:
            raise HolonError(
                f"blueprint {job.blueprint!r} has no state named {job.current_state!r}", code="STATE_NOT_FOUND"
            )
        return state

    async def _branches(self, job: Job) -> dict[str, Any]:
        if job.aggregates is None:
            return {}
        return {
            task_id: machine.branch_result(
                job.id,
                task_id,
                outcome,
                decode(outcome.data, "the data of a branch"),
                decode(outcome.error.details, "the details of an error") if outcome.error else None,
            )
            for task_id, outcome in await self._tools.store.branches(job.id, job.aggregates)
        }

    def _crashed(self) -> Change:
        message = (
            f"the node ended {self._claim.deliveries - 1} times while the handler of state "
            f"{self._job.current_state!r} ran; it may be what ends it"
        )
        error = JobError("HANDLER_CRASHED", message)
        return machine.end(self._job, Status.QUARANTINED, error, self._now(), end_tasks=True)

    def _unstorable(self, job: Job, error: InvalidArgument) -> Change:
        """What was decided cannot be stored: too large ends the job as it was, else its handler has failed."""
        reason = JobError(error.code, error.message)
        if isinstance(error, TooLarge):
            return machine.end(self._job, Status.FAILED, reason, self._now())
        return self._failed(job, reason, 0)

    def _failed(self, job: Job, error: JobError, took: int, before: tuple[HistoryEvent, ...] = ()) -> Change:
        jitter = random.random()  # noqa: S311  it hides nothing
        return machine.handler_failed(job, error, self._tools.bounds.machine, self._now(), took, jitter, before=before)

    async def _commit(self, change: Change) -> bool:
        tools, job = self._tools, replace(change.job, step=self._job.step + 1)
        chunks = await self._new_tasks(change.tasks)
        tasks = chunks[0] if chunks else ()
        counted = Counter(tools.dispatcher.learn(task.need) for chunk in chunks for task in chunk)
        step = Step(
            claim_id=self._claim.claim_id,
            commit_id=random_id(),
            job=job,
            consumed=tuple(self._consumed),
            history=change.history,
            tasks=tasks,
            fan_out=NewFanOut(len(change.tasks), change.fail_fast, chunks[1:]) if change.fan_out else None,
            wake_after=change.wake_after,
            end_tasks=change.end_tasks,
            keep=job.status.due,
        )
        seats = tools.dispatcher.seats_for(counted)
        reply: Committed | None = None
        try:
            with tools.slots.wanting(1) as wanted:
                reply = await tools.store.commit(step, wanted.n, seats)
                wanted.claims = reply.claims
        finally:
            tools.dispatcher.settle(seats, reply.leased if reply is not None else None)
        if reply.conflict:
            log.warning("job %s: another node took its claim over; this run is void", job.id, extra={"job_id": job.id})
            return False
        await tools.dispatcher.wait_for(counted.keys() - {key for seat in seats for key in seat.keys})
        self._job, self._consumed = job, []
        self._events = deque(reply.events)
        return step.keep

    async def _new_tasks(self, specs: tuple[TaskSpec, ...]) -> tuple[tuple[NewTask, ...], ...]:
        """The tasks of a step, in chunks; a large fan-out lets others run between two of them."""
        chunks = []
        for at in range(0, len(specs), CHUNK):
            chunks.append(tuple(self._new_task(spec) for spec in specs[at : at + CHUNK]))
            if at:
                await asyncio.sleep(0)
        return tuple(chunks)

    def _new_task(self, spec: TaskSpec) -> NewTask:
        limit = self._tools.bounds.max_payload
        return NewTask(
            id=spec.id,
            index=spec.index,
            need=self._tools.needs.of(spec.skill, spec.params),
            params=encode(spec.params, limit, f"the params of task {spec.index} for skill {spec.skill!r}"),
            priority=spec.priority,
            execution_timeout=spec.execution_timeout,
            dispatch_timeout=spec.dispatch_timeout,
            result_timeout=spec.result_timeout,
            retry=spec.retry,
        )

    def _now(self) -> int:
        return self._tools.store.now()


def _ms(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)
