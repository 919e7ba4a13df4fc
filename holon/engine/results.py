"""Results of workers: checked, answered with a retry or not, and applied under their lease."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from holon.domain.children import is_nodes_own
from holon.domain.costs import Cost, least
from holon.domain.matching import Need
from holon.domain.retries import back_off, lost_share, retry_after, word_of_worker
from holon.domain.task import (
    CONTRACT_VIOLATION,
    DEADLINE_EXCEEDED,
    FAILURE,
    LIMIT_EXCEEDED,
    RESULT_TIMEOUT,
    SUCCESS,
    Outcome,
    RetryPolicy,
    TaskError,
    job_of,
)
from holon.domain.value import Value, replace
from holon.engine.contracts import Contracts
from holon.engine.dispatcher import Dispatcher
from holon.engine.error_details import with_details
from holon.engine.fusing import Ended, Fusing
from holon.engine.payloads import decode_within
from holon.engine.planning import Plan
from holon.engine.session import Session
from holon.errors import RETRY_S, InvalidArgument, TooLarge, Unavailable
from holon.ports import Completed, Offer, Result, Seat, Storage, Superseded
from holon.telemetry.events import Telemetry
from holon.telemetry.seldom import Seldom
from holon.turns import one_by_one

log = logging.getLogger(__name__)

# A holon stops what it does a fiftieth of its time before the end, and each one further down a fiftieth more: a fifth
# is as much as ten in a line need. In milliseconds, at least and at most.
_STOPS_BEFORE, _LEAST_BEFORE_MS, _MOST_BEFORE_MS = 5, 500, 50_000


class Reported(Value, gc=True):
    """A result as a worker sent it; with `broken` it cannot be used, and `outcome` is the failure in its place.

    `resent` says that it was sent before, perhaps to a process that did not survive it. `summary` is what a holon tells
    of the job that did it, and `generation` the task's, 0: that is not known. `cost` is in millionths of the cost unit;
    None: it does not say.
    """

    task_id: str
    lease_id: str
    outcome: Outcome
    took: int | None = None
    broken: InvalidArgument | None = None
    resent: bool = False
    summary: bytes | None = None
    cost: Cost = None
    generation: int = 0


class Answer(Value, gc=True):
    """What a worker is told of its result; exactly one of the three.

    `superseded`: it was not applied, and why. `invalid`: it broke its contract or a limit, which ended the attempt.
    `again_after`: seconds after which it is to be sent again. None of them: it is committed.
    """

    task_id: str
    lease_id: str
    superseded: Superseded | None = None
    invalid: InvalidArgument | None = None
    again_after: float | None = None


class _Taken(Value, gc=True):
    """A result on its way: as it was sent, and as it is to be applied, the worker's own or a failure in its place.

    `broken` is what was wrong with it. `data` and `details` are the outcome's, decoded. `plan` has the step of its job
    that is written with it, if that was decided here.
    """

    sent: Reported
    result: Result
    broken: InvalidArgument | None = None
    data: dict[str, Any] | None = None
    details: Any = None
    plan: Plan | None = None


class Results:
    """Takes results in, whole batches of one session at a time.

    Arguments:
        max_payload: the most bytes that a result's data may have.
        judged: is told of results that were applied, with each its skill, and whether it broke its contract.
    """

    def __init__(
        self,
        store: Storage,
        dispatcher: Dispatcher,
        contracts: Contracts,
        fusing: Fusing,
        max_payload: int,
        telemetry: Telemetry,
        judged: Callable[[Session, Iterable[tuple[str, Outcome, bool]]], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._contracts = contracts
        self._fusing = fusing
        self._max_payload = max_payload
        self._telemetry = telemetry
        self._judged = judged
        self._unstored = Seldom(log)

    async def complete(self, session: Session, reported: Sequence[Reported]) -> Sequence[Answer]:
        """Apply results of one session; each is its worker's final word about its lease."""
        try:
            return await self._applied(session, reported)
        except Unavailable as error:
            worker = session.worker_id
            self._unstored.warn("results of worker %s were not stored", worker, why=error.message, worker_id=worker)
            return [_again(one) for one in reported]

    async def _applied(self, session: Session, reported: Sequence[Reported]) -> Sequence[Answer]:
        """The same; raises Unavailable when nothing of it happened."""
        # Each may be as dear to check as one value can be, and there may be hundreds.
        taken = await one_by_one(lambda one: self._taken(session, one), reported)
        for at, one in enumerate(taken):
            if one.result.outcome.status == FAILURE:
                taken[at] = await self._failed(session, one)
        # A handler each, and there may be hundreds.
        taken = await one_by_one(lambda one: self._decided(session, one), taken)
        # Another stream of the worker's may have taken over its leases meanwhile.
        session = self._dispatcher.newest(session)
        reply = await self._write(session, taken)
        if reply.unstored:
            facts = {"worker_id": session.worker_id}
            n = len(reply.unstored)
            log.warning("%d results of worker %s were not stored", n, session.worker_id, extra=facts)
        return [
            _again(one.sent)
            if one.sent.lease_id in reply.unstored
            else Answer(one.sent.task_id, one.sent.lease_id, superseded, None if superseded else one.broken)
            for one, superseded in zip(taken, reply.verdicts, strict=True)
        ]

    def _decided(self, session: Session, one: _Taken) -> _Taken:
        """A result with what its job decides upon it, as far as that may be decided here."""
        sent, result = one.sent, one.result
        # The single task of a step is its first: nothing is decided upon any other alone.
        if not sent.task_id.endswith("-0"):
            return one
        offer = self._dispatcher.newest(session).leases.get(sent.lease_id)
        if offer is None or sent.resent or result.retry_after is not None:
            return one
        ended = Ended(sent.task_id, result.outcome, offer.generation, one.data or {}, one.details)
        plan = self._fusing.after(offer.job_id, ended, self._store.now())
        return one if plan is None else replace(one, result=replace(result, step=plan.step), plan=plan)

    async def _write(self, session: Session, taken: Sequence[_Taken]) -> Completed:
        held = {one.sent.lease_id for one in taken if one.sent.lease_id in session.leases}
        needs: dict[Need, int] = {}
        planned = [(one, one.plan) for one in taken if one.plan is not None]
        for _, plan in planned:
            for need, n in plan.needs.items():
                needs[need] = needs.get(need, 0) + n
        seats = self._dispatcher.seats_at(session, session.free + len(held)) + self._dispatcher.seats_for(needs)
        with self._dispatcher.naming(seats) as named:
            reply = await self._complete(session, taken, seats)
            named.leased = reply.leased
            self._tell(session, taken, held, reply)
            stored = [one.sent.lease_id for one in taken if one.sent.lease_id not in reply.unstored]
            self._dispatcher.freed(session, *stored)
        for one, plan in planned:
            if one.sent.lease_id in reply.landed:
                self._fusing.mirror.keep(plan.step.job)
                self._telemetry.written(plan.step.job, self._store.now())
                self._telemetry.metrics.outcome(plan.step.job.blueprint, one.result.outcome)
        await self._dispatcher.wait_without(seats, needs)
        return reply

    def _tell(self, session: Session, taken: Sequence[_Taken], held: Container[str], reply: Completed) -> None:
        # A result that is taken under a lease that nobody holds was taken before, and counted then.
        news = [
            (one.result, why)
            for one, why in zip(taken, reply.verdicts, strict=True)
            if (why is not None or one.sent.lease_id in held) and one.sent.lease_id not in reply.unstored
        ]
        self._telemetry.ended(news, session.worker_id)
        # Nearly always there is nothing to judge: a worker that has the best reputations does well.
        if session.reputations or FAILURE in [one.result.outcome.status for one in taken]:
            self._judge(session, taken, reply)

    def _judge(self, session: Session, taken: Sequence[_Taken], reply: Completed) -> None:
        """Have results judged that were applied: once for each lease, however often one came, and on which streams."""
        left = self._dispatcher.newest(session).leases
        once: dict[str, _Taken] = {}
        for one, why in zip(taken, reply.verdicts, strict=True):
            if why is None and one.sent.lease_id in left and one.sent.lease_id not in reply.unstored:
                once.setdefault(one.sent.lease_id, one)
        results = [(left[lease].skill, one.result.outcome, one.broken is not None) for lease, one in once.items()]
        self._judged(session, results)

    async def _complete(self, session: Session, taken: Sequence[_Taken], seats: Sequence[Seat]) -> Completed:
        results = [one.result for one in taken]
        try:
            return await self._store.complete(results, session.worker_id, seats)
        except InvalidArgument as error:
            if all(one.plan is None for one in taken):
                raise
            # A state that cannot be stored: without steps, it is found again and made its handler's failure.
            facts = {"worker_id": session.worker_id}
            log.debug(
                "results of worker %s are stored without the steps that follow: %s",
                session.worker_id,
                error.message,
                extra=facts,
            )
        without_steps = [replace(one, step=None) for one in results]
        return await self._store.complete(without_steps, session.worker_id, seats)

    def _taken(self, session: Session, one: Reported) -> _Taken:
        """A result that was read; what cannot be used is a failure."""
        outcome = one.outcome
        if outcome.error is not None and not session.is_holon:
            outcome = replace(outcome, error=word_of_worker(outcome.error))
        if one.broken is not None:
            return _of(session, one, outcome, one.broken)
        try:
            data = decode_within(outcome.data, self._max_payload, "the data of the result")
            details = None
            if outcome.error is not None:
                error, details = with_details(outcome.error, self._max_payload, is_holon=session.is_holon)
                outcome = replace(outcome, error=error)
        except InvalidArgument as why:
            return _refused(session, one, LIMIT_EXCEEDED if isinstance(why, TooLarge) else CONTRACT_VIOLATION, why)
        if outcome.status == FAILURE:
            return _of(session, one, outcome, None, None, details)
        if data is not None and not isinstance(data, dict):
            broken = InvalidArgument("the data of a result must be a JSON object", code="SCHEMA_MISMATCH")
            return _refused(session, one, CONTRACT_VIOLATION, broken)
        offer = session.offered(one.lease_id)
        terms = session.terms_of(offer) if offer is not None else None
        if outcome.status == SUCCESS and terms is not None and terms.output:
            violations = self._contracts.violations(terms.output, {} if data is None else data, "data")
            if violations:
                message = f"the result violates the skill's output schema: {violations[0].field} {violations[0].reason}"
                broken = InvalidArgument(message, code="SCHEMA_MISMATCH", details=violations)
                return _refused(session, one, CONTRACT_VIOLATION, broken)
        return _of(session, one, outcome, None, data, details)

    async def _failed(self, session: Session, one: _Taken) -> _Taken:
        """A failure, and when its task is tried again, if it is."""
        outcome = await self._limited(session, one.sent, one.result.outcome)
        policy, generation = await self._policy(session, one.sent)
        jitter = random.random()  # noqa: S311  it hides nothing
        share_lost = session.is_holon and await self._share_lost(one.result, outcome.error)
        # The budget bounds these tries: each one costs something.
        after = back_off(policy, 1, jitter) if share_lost else retry_after(outcome, generation - 1, policy, jitter)
        return replace(one, result=replace(one.result, outcome=outcome, retry_after=after, share_lost=share_lost))

    async def _share_lost(self, result: Result, error: TaskError | None) -> bool:
        """Whether a holon's share of a budget was used up by lost attempts, so that its task may get another share."""
        if not lost_share(error) or not result.cost:
            return False
        record = await self._store.job(job_of(result.task_id))
        return record is not None and record.job.budget is not None

    async def _limited(self, session: Session, one: Reported, outcome: Outcome) -> Outcome:
        """A failure as it was told; but a holon that was out of time tells the result timeout, if it was that.

        A holon is told of one time, whichever of the task's is over first, and stops a little before: which it was it
        cannot know. Nor that it was the time of the whole job here, which another try does not prolong. It is taken for
        the end of the time where that is near: whoever works below may use the word for something else.
        """
        error = outcome.error
        if error is None or error.code != DEADLINE_EXCEEDED or not session.is_holon:
            return outcome
        offer = session.offered(one.lease_id)
        error = replace(error, retryable=None)
        if offer is not None and _is_nearly_over(offer, self._store.now()):
            error = await self._out_of_time(one, offer, error)
        return replace(outcome, error=error)

    async def _out_of_time(self, one: Reported, offer: Offer, error: TaskError) -> TaskError:
        task = await self._store.task(one.task_id)
        if task is None or task.result_due is None or offer.deadline is None or task.result_due > offer.deadline:
            return error
        record = await self._store.job(job_of(one.task_id))
        ends = None if record is None or record.job.cancelling else record.job.deadline
        if ends is not None and task.result_due >= ends:
            return replace(error, retryable=False)
        return replace(error, code=RESULT_TIMEOUT)

    async def _policy(self, session: Session, one: Reported) -> tuple[RetryPolicy, int]:
        offer = session.offered(one.lease_id)
        if offer is not None:
            return offer.retry, offer.generation
        task = await self._store.task(one.task_id)
        return (task.retry, task.generation) if task is not None else (RetryPolicy(), 1)


def _is_nearly_over(offer: Offer, now: int) -> bool:
    """Whether so little of an attempt's time is left that a holon may have stopped for that, or one further down."""
    if offer.deadline is None or offer.time_left is None:
        return False
    return now >= offer.deadline - min(max(offer.time_left // _STOPS_BEFORE, _LEAST_BEFORE_MS), _MOST_BEFORE_MS)


def charge_of(session: Session, one: Reported) -> Cost:
    """What an attempt is charged: what its worker says, else what it declared when it got it; never over its limit.

    A part of which nothing has a price has none either, unless what is kept for it is to be freed.
    """
    offer = session.offered(one.lease_id)
    cost = one.cost
    if offer is None or (cost is None and offer.max_cost is None and is_nodes_own(session.worker_id)):
        return cost
    if cost is None and (terms := session.terms_of(offer)) is not None:
        cost = terms.price
    return least(cost, offer.max_cost)


def _again(one: Reported) -> Answer:
    return Answer(one.task_id, one.lease_id, again_after=RETRY_S)


def _refused(session: Session, one: Reported, code: str, error: InvalidArgument) -> _Taken:
    return _of(session, one, Outcome.failed(code, error.message, session.worker_id), error)


def _of(
    session: Session,
    one: Reported,
    outcome: Outcome,
    broken: InvalidArgument | None = None,
    data: dict[str, Any] | None = None,
    details: Any = None,
) -> _Taken:
    """A result as it is to be applied."""
    result = Result(one.task_id, one.lease_id, outcome, None, one.took, None, charge_of(session, one))
    return _Taken(one, result, broken, data, details)
