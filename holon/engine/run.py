"""One claim, run: events taken in, handlers called, each step committed, until nothing is left to do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from holon.domain import branches, machine
from holon.domain.change import Change
from holon.domain.children import JOB_ABOVE
from holon.domain.events import (
    ApprovalResolved,
    BranchesDone,
    CancelRequested,
    HistoryEvent,
    InboxEvent,
    TaskEnded,
    TaskEvent,
)
from holon.domain.job import Job, JobError, Status
from holon.domain.reactions import react
from holon.domain.signals import Signal
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.engine.children.bonds import Bonds
from holon.engine.dispatcher import Dispatcher
from holon.engine.fusing import Fusing
from holon.engine.handlers import Handlers
from holon.engine.payloads import decode
from holon.engine.planning import Planner
from holon.engine.untaken import explained, is_untaken
from holon.errors import InvalidArgument, TooLarge
from holon.ports import Claim, Step, Storage
from holon.telemetry.events import Telemetry
from holon.turns import in_chunks, one_by_one


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run of a job needs of the node; one object for all runs."""

    store: Storage
    handlers: Handlers
    planner: Planner
    dispatcher: Dispatcher
    fusing: Fusing
    bonds: Bonds
    max_deliveries: int
    telemetry: Telemetry


class Run:
    """The run of one claim. What it decided before a lost commit is dropped: whoever claims next decides again."""

    def __init__(self, tools: Tools, claim: Claim) -> None:
        self._tools = tools
        self._claim = claim
        self._job = claim.job
        self._events: deque[tuple[int, InboxEvent]] = deque(claim.events)
        self._consumed: list[int] = []
        # How often a handler was begun since the last commit, and its run ended with its node.
        self._lost = claim.deliveries - 1

    async def go(self) -> None:
        """Run steps until the claim ends.

        Raises:
            StoreUnavailable: a step could not be stored; the claim is as it was.
        """
        if self._claim.deliveries > self._tools.max_deliveries:
            await self._commit(self._crashed())
            return
        if self._job.parent_job_id and not self._job.step and await self._tools.bonds.is_left(self._job):
            left = react(self._job, CancelRequested(JOB_ABOVE), {}, None, self._now())
            if left is not None:
                await self._commit(left)
            return
        goes_on = True
        while goes_on:
            goes_on = await self._step()
            if goes_on and self._tools.handlers.ending():
                await self._tools.store.release(self._claim)
                return
            # Neither a store in memory nor most handlers wait for anything: a job that goes round lets others run.
            await asyncio.sleep(0)

    async def _step(self) -> bool:
        """One step; whether to go on with the claim."""
        change = await self._take_events()
        if change is None and not self._job.status.due:
            if self._consumed:
                return await self._commit(replace(self._tools.handlers.stays(self._job), as_it_was=True))
            await self._tools.store.release(self._claim)
            return False
        job = change.job if change else self._job
        before = change.history if change else ()
        if job.status.due:
            job, lost = machine.handler_lost(job, self._lost, self._now())
            before = (*before, *lost)
            handled = await self._handled(job, before)
            change = _with_ends_of(change, handled) if change else handled
        assert change is not None  # noqa: S101  a job that is not due has an event here
        try:
            return await self._commit(change)
        except InvalidArgument as error:
            unstorable = self._unstorable(job, error, before)
            return await self._commit(_with_ends_of(change, unstorable))

    async def _handled(self, job: Job, before: tuple[HistoryEvent, ...]) -> Change:
        """What becomes of a job whose handler is due."""
        handlers = self._tools.handlers
        if not handlers.loaded(job):
            return handlers.put_off(job, before, again=self._job.status is Status.WAITING_FOR_RETRY)
        return await handlers.run(job, await self._branches(job), before)

    async def _take_events(self) -> Change | None:
        """React to what came in, until there is a change; a cancel goes first, then what a person has decided.

        Whoever decided was told that it counts, so it does though the time for it is over meanwhile.
        """
        first = self._first(CancelRequested)
        if first is None and self._job.status is Status.WAITING_FOR_HUMAN:
            first = self._first(ApprovalResolved)
        while first is not None or (self._events and not self._job.status.due):
            if first is not None:
                self._events.remove(first)
            number, event = first or self._events.popleft()
            first = None
            self._consumed.append(number)
            change = await self._react(event)
            if change is not None:
                return change
        return None

    def _first(self, kind: type[CancelRequested | ApprovalResolved]) -> tuple[int, InboxEvent] | None:
        return next((entry for entry in self._events if isinstance(entry[1], kind)), None)

    async def _react(self, event: InboxEvent) -> Change | None:
        data: Any = {}
        details: Any = None
        ended: Sequence[Outcome] = ()
        failed: tuple[str, Outcome] | None = None
        if isinstance(event, TaskEnded):
            if is_untaken(event.outcome):
                event = replace(event, outcome=await self._explained(event.outcome, event.task_id))
            ended = [event.outcome]
            data = decode(event.outcome.data, "the data of a result") or {}
            details = decode(event.outcome.error.details, "the details of an error") if event.outcome.error else None
        elif isinstance(event, ApprovalResolved):
            data = decode(event.data, "the data of a decision") or {}
        elif isinstance(event, Signal):
            data = decode(event.data, "the data of a signal") or {}
        elif isinstance(event, TaskEvent):
            data = decode(event.payload, "the payload of an event") or {}
        elif isinstance(event, BranchesDone) and event.fail_fast:
            told = await self._tools.store.branches(self._job.id, event.step)
            ended = [outcome for _, outcome in told]
            failed = next((one for one in told if not branches.succeeded(one[1])), None)
            if failed is not None and is_untaken(failed[1]):
                failed = failed[0], await self._explained(failed[1], failed[0])
        change = react(self._job, event, data, details, self._now(), failed)
        if change is not None:
            async for some in in_chunks(ended):
                self._count(self._job, some)
            if isinstance(event, Signal) and not change.job.status.due:
                # It is kept, and the job waits as before.
                return replace(self._tools.handlers.stays(change.job), history=change.history, as_it_was=True)
        return change

    def _count(self, job: Job, ended: Iterable[Outcome]) -> None:
        for outcome in ended:
            self._tools.telemetry.metrics.outcome(job.blueprint, outcome)

    async def _explained(self, outcome: Outcome, task_id: str) -> Outcome:
        return await explained(outcome, task_id, self._tools.store, self._tools.dispatcher)

    async def _branches(self, job: Job) -> dict[str, Any]:
        if job.aggregates is None:
            return {}
        told = await self._tools.store.branches(job.id, job.aggregates)

        def result_of(branch: tuple[str, Outcome]) -> tuple[str, Any]:
            task_id, outcome = branch
            data = decode(outcome.data, "the data of a branch")
            details = decode(outcome.error.details, "the details of an error") if outcome.error else None
            return task_id, branches.branch_result(job.id, task_id, outcome, data, details)

        results: dict[str, Any] = {}
        async for some in in_chunks(told):
            if not job.failures:
                self._count(job, (outcome for _, outcome in some))
            # Each may have as much as a result can carry.
            results.update(await one_by_one(result_of, some))
        return results

    def _crashed(self) -> Change:
        message = (
            f"the node ended {self._claim.deliveries - 1} times while the handler of state "
            f"{self._job.current_state!r} ran, so the handler may be the cause"
        )
        error = JobError("HANDLER_CRASHED", message)
        job, lost = machine.handler_lost(self._job, self._lost, self._now())
        ended = machine.end(job, Status.QUARANTINED, error, self._now(), before=lost, end_tasks=True)
        return replace(ended, as_it_was=True)

    def _unstorable(self, job: Job, error: InvalidArgument, before: tuple[HistoryEvent, ...]) -> Change:
        """What was decided cannot be stored: too large ends the job as it was, else its handler has failed."""
        reason = JobError(error.code, error.message, retryable=True if error.retry_after is not None else None)
        if isinstance(error, TooLarge):
            as_it_was = replace(self._job, cancelling=job.cancelling, events=job.events)
            ended = machine.end(as_it_was, Status.FAILED, reason, self._now(), before=before)
            return replace(ended, as_it_was=True)
        return self._tools.handlers.unstorable(job, error, before)

    async def _commit(self, change: Change) -> bool:
        tools = self._tools
        plan = await tools.planner.plan(self._job, change, self._claim.claim_id, tuple(self._consumed))
        if change.cancels:
            await tools.bonds.cut(self._job, change)
        step = plan.step
        seats = tools.dispatcher.seats_for(plan.needs)
        with tools.dispatcher.naming(seats) as named:
            reply = await tools.store.commit(step, seats)
            # Any other reply has leased nothing, and says nothing of what waits.
            if not (reply.conflict or reply.over_budget or reply.cancel_pending):
                named.leased = reply.leased
        if reply.over_budget:
            raise tools.planner.over_budget(self._job, await self._kept(step))
        if reply.conflict:
            tools.telemetry.void(step.job)
            return False
        tools.telemetry.written(step.job, self._now())
        await tools.dispatcher.wait_without(seats, plan.needs)
        if not reply.cancel_pending:
            tools.fusing.mirror.keep(step.job)
        self._job, self._consumed, self._lost = step.job, [], 0
        self._events = deque(reply.events)
        return step.keep

    async def _kept(self, step: Step) -> int:
        """What the job keeps for lost attempts, where its budget would cover the step without that; else 0."""
        record = await self._tools.store.job(self._job.id)
        covers = record is not None and step.reserves <= (self._job.budget or 0) - (record.cost or 0)
        return record.unreported if record is not None and covers else 0

    def _now(self) -> int:
        return self._tools.store.now()


def _with_ends_of(event: Change, handled: Change) -> Change:
    """What a handler decided, with what the event before it ends: tasks of earlier steps, and a part of the job."""
    if not (event.end_tasks or event.cancels):
        return handled
    if event.cancels and not handled.cancels:
        return replace(handled, end_tasks=event.end_tasks, cancels=event.cancels, insists=event.insists)
    return replace(handled, end_tasks=event.end_tasks or handled.end_tasks)
