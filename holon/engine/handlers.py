"""Handlers: called with their arguments by name; what they decide, or that they failed, is a change of their job."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any

import orjson

from holon.context import ActionFactory, ClientConfig, JobContext
from holon.domain import machine
from holon.domain.blueprint import Blueprint
from holon.domain.change import Change, Limits
from holon.domain.events import HistoryEvent, tells_event
from holon.domain.job import Job, JobError
from holon.domain.states import Function, Handler, State
from holon.domain.texts import MAX_ERROR_CODE, MAX_ERROR_MESSAGE, told
from holon.domain.value import replace
from holon.domain.waiting import stays
from holon.engine.arguments import arguments
from holon.engine.blueprints import Blueprints
from holon.engine.children.calling import Calling, calls
from holon.engine.faults import check, lasts, with_line
from holon.engine.job_files import JobFiles
from holon.engine.outputs import Outputs
from holon.engine.sent_events import SentEvents
from holon.errors import BlueprintError, HolonError, InvalidArgument, Violation
from holon.json_in import parse
from holon.task_files import TaskFiles
from holon.telemetry.events import Telemetry
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# So long may a handler keep the loop that everything of its node runs on before the log says so.
HELD_UP_S = 1.0
_NONE: frozenset[Function] = frozenset()


class _Watched:
    """Awaits a handler; `count` is told while it waits. Afterwards it is known whether it was closed from outside.

    Attributes:
        closed: whether it was.
        held: for how many seconds it has kept the loop at one go, at the most.
    """

    __slots__ = ("_count", "_handler", "closed", "held")

    def __init__(self, handler: Awaitable[Any], count: Callable[[int], None]) -> None:
        self._handler = handler
        self._count = count
        self.closed = False
        self.held = 0.0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._handler.__await__()
        waited = False
        since = time.perf_counter()
        try:
            pending = next(steps)
            waited = True
            self._count(1)
            while True:
                self.held = max(self.held, time.perf_counter() - since)
                try:
                    sent = yield pending
                except BaseException as thrown:  # noqa: BLE001  it is the handler's, a cancel too
                    since = time.perf_counter()
                    self.closed = isinstance(thrown, GeneratorExit)
                    pending = steps.throw(thrown)
                else:
                    since = time.perf_counter()
                    pending = steps.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            self.held = max(self.held, time.perf_counter() - since)
            if waited:
                self._count(-1)


class Handlers:
    """Runs the handlers of registered blueprints.

    Arguments:
        now: the store's clock, in epoch milliseconds.
        telemetry: where failures are counted, and steps traced.
        sent_events: what becomes of events.
        calling: looks at what they ask for that run blueprints.
        outputs: checks the results of jobs that end.
        files: where jobs have files; None where they have none.

    Attributes:
        waiting: how many of them wait for something now.
        ending: whether who runs them is being ended: a cancel that is not meant came out of a handler, and is its
            failure.
    """

    def __init__(
        self,
        blueprints: Blueprints,
        limits: Limits,
        now: Callable[[], int],
        telemetry: Telemetry,
        sent_events: SentEvents,
        calling: Calling,
        outputs: Outputs,
        files: JobFiles | None = None,
    ) -> None:
        self._blueprints = blueprints
        self._files = files
        self._limits = limits
        self._now = now
        self._telemetry = telemetry
        self._sent_events = sent_events
        # By blueprint and state, those that await nothing and have ended well here; None: its only one.
        self._prompt: dict[tuple[str, str], set[Function] | None] = {}
        blueprints.on_replace(self._prompt.clear)
        self._calling = calling
        self._outputs = outputs
        self._missing = Seldom(log)
        self.waiting = 0
        self.ending: Callable[[], bool] = lambda: False

    def _count(self, by: int) -> None:
        self.waiting += by

    def loaded(self, job: Job) -> bool:
        """Whether this node has a handler of a job's state."""
        return not self._blueprints.not_loaded(job)

    def prompt(self, job: Job) -> bool:
        """Whether the handler of a job's state awaits nothing, and has ended well here before."""
        known = self._prompt.get((job.blueprint, job.current_state), _NONE)
        if not known:
            return known is None
        try:
            return self._at(job)[1].handler(job.initial_data, job.state_history).function in known
        except BlueprintError:
            return False

    async def run(self, job: Job, results: Mapping[str, Any], before: tuple[HistoryEvent, ...]) -> Change:
        """Run the handler of a job's state; what it raises is its job's failure, not ours. On cancel it is void.

        Arguments:
            results: of the fan-out that led here, by task id.
            before: lines of history that go before those of this run.
        Raises:
            Unavailable: there is no memory for it.
        """
        change = await self._run(job, results, before)
        assert change is not None  # noqa: S101  nothing is at once
        return change

    def run_now(self, job: Job, before: tuple[HistoryEvent, ...]) -> Change | None:
        """The same for a `prompt` handler, without any wait; None where what it decided needs one."""
        running = self._run(job, {}, before, at_once=True)
        try:
            running.send(None)
        except StopIteration as stop:
            change: Change | None = stop.value
            return change
        raise AssertionError("it was suspended without awaiting anything")

    async def _run(
        self, job: Job, results: Mapping[str, Any], before: tuple[HistoryEvent, ...], *, at_once: bool = False
    ) -> Change | None:
        before = (*before, machine.started(job, self._now()))
        # What a handler changes counts only if its step is stored: it works on a copy.
        initial_data, history = parse(orjson.dumps((job.initial_data, job.state_history)))
        client = ClientConfig(job.owner, job.plan, parse(job.client_params) if job.client_params else {})
        began = time.perf_counter()
        actions = ActionFactory()
        span = self._telemetry.tracing.step(job)
        watched: _Watched | None = None
        files: TaskFiles | None = None
        blueprint, state = self._at(job)
        chosen = state.handlers[0]
        try:
            if chosen.condition is not None:
                chosen = state.handler(initial_data, history)
            if chosen.files and self._files is not None:
                files = self._files.of(job.id)
            context = JobContext(
                job.id,
                job.blueprint,
                job.current_state,
                initial_data,
                history,
                dict(results),
                actions,
                client,
                blueprint.data_stores,
                files,
                job.webhook or None,
            )
            with span:
                handler = chosen.function(**arguments(chosen, context))
                if at_once:
                    returned = await handler
                else:
                    watched = _Watched(handler, self._count)
                    returned = await watched
            state_history, decision = context.state_history, actions.decision
            check(blueprint, state, actions, state_history, returned)
            if (called := calls(decision)) is not None:
                decision = called = self._calling.checked(job, called)
            if actions.events:
                # Last: a run that fails sends none.
                told = self._sent_events.lines(job, actions.events, self._now())
                before, job = (*before, *told), replace(job, events=job.events + sum(map(tells_event, told)))
        except BaseException as error:  # it is the user's code; a signal is no exception here
            if watched is not None and watched.closed:
                raise
            if isinstance(error, asyncio.CancelledError) and self.ending() and not at_once:
                raise
            _tell_held(job, began, watched)
            # No other run can help where the handler has caught this one, whatever it raised then.
            error = actions.second or error
            span.end(_said(error))
            before = self._with_files(job, before, files)
            return self._raised(job, chosen, actions, error, _ms(began), before)
        if chosen.prompt and self._prompt.get((job.blueprint, job.current_state), _NONE) is not None:
            self._ended_well(job, state, chosen)
        _tell_held(job, began, watched)
        if files is not None:
            before = self._with_files(job, before, files)
        span.end()
        if called is not None and job.budget is not None:
            if at_once:
                return None
            decision = await self._calling.budgeted(job, called)
        broken: Sequence[Violation] = ()
        if decision is None and state.outcome == "finished" and not job.cancelling:
            broken = self._outputs.violations(chosen.function, machine.result_of(returned, state_history))
        change = machine.decide(
            job,
            state,
            decision,
            returned,
            self._limits,
            self._now(),
            _ms(began),
            state_history=state_history,
            before=before,
            broken=broken,
        )
        return replace(change, trace=span.trace) if span.trace else change

    def _with_files(
        self, job: Job, before: tuple[HistoryEvent, ...], files: TaskFiles | None
    ) -> tuple[HistoryEvent, ...]:
        """Those lines of history, and what this run did with the files of its job."""
        if files is None or not files.told:
            return before
        now = self._now()
        told = (HistoryEvent("s3_operation", now, job.current_state, details=details) for details in files.told)
        return (*before, *told)

    def _ended_well(self, job: Job, state: State, handler: Handler) -> None:
        known = self._prompt.setdefault((job.blueprint, job.current_state), set() if state.handlers[1:] else None)
        if known is not None:
            known.add(handler.function)

    def _at(self, job: Job) -> tuple[Blueprint, State]:
        """The blueprint of a job whose handler is loaded, and the state that it is in."""
        blueprint = self._blueprints.get(job.blueprint)
        assert blueprint is not None  # noqa: S101
        return blueprint, blueprint.states[job.current_state]

    def _raised(
        self,
        job: Job,
        handler: Handler,
        actions: ActionFactory,
        error: BaseException,
        took: int,
        before: tuple[HistoryEvent, ...],
    ) -> Change:
        self._telemetry.metrics.handler_failures.add(job.blueprint)
        ours = isinstance(error, HolonError)
        code, message = "HANDLER_ERROR", _said(error)
        if isinstance(error, HolonError):
            code, message = told(error.code, MAX_ERROR_CODE) or code, told(error.message, MAX_ERROR_MESSAGE)
        last = lasts(error)
        if last or not ours:
            message = with_line(message, error, handler, actions)
        log.warning(
            "job %s: handler of state %s failed: %s",
            job.id,
            job.current_state,
            message,
            exc_info=None if ours else error,
            extra={"job_id": job.id},
        )
        return self._failed(job, JobError(code, message), took, before, lasts=last)

    def unstorable(self, job: Job, error: InvalidArgument, before: tuple[HistoryEvent, ...]) -> Change:
        """What the handler of a job's state has left or decided cannot be stored, which is its failure."""
        message, last = error.message, lasts(error)
        if last:
            handler = self._at(job)[1].handler(job.initial_data, job.state_history)
            message = with_line(message, error, handler, ActionFactory())
        return self._failed(job, JobError(error.code, message), 0, before, lasts=last)

    def _failed(self, job: Job, error: JobError, took: int, before: tuple[HistoryEvent, ...], *, lasts: bool) -> Change:
        now = self._now()
        return machine.handler_failed(job, error, self._limits, now, took, _jitter(), before=before, lasts=lasts)

    def put_off(self, job: Job, before: tuple[HistoryEvent, ...], *, again: bool) -> Change:
        """A job whose handler is not `loaded`, as it waits until some node has that.

        Arguments:
            before: lines of history that go before those of this change.
            again: whether it was tried again by this.
        """
        why = self._blueprints.not_loaded(job)
        self._missing.warn("job %s waits", job.id, why=why, job_id=job.id)
        return machine.not_loaded(job, self._limits, self._now(), _jitter(), before, again=again)

    def stays(self, job: Job) -> Change:
        """A job that nothing has changed, as it goes on waiting."""
        return stays(job, self._limits, self._now(), _jitter())


def _jitter() -> float:
    return random.random()  # noqa: S311  it hides nothing


def _said(error: BaseException) -> str:
    """What an exception says, with its kind."""
    kind = type(error).__name__
    if isinstance(error, asyncio.CancelledError) and not error.args:
        return f"{kind}: what the handler awaited was cancelled"
    return f"{kind}: {told(error, MAX_ERROR_MESSAGE)}"


def _tell_held(job: Job, began: float, watched: _Watched | None) -> None:
    """Say of a handler that it has kept everybody else waiting; its author may not know that it can.

    Arguments:
        watched: how it ran; None for one that ran at once.
    """
    held = time.perf_counter() - began if watched is None else watched.held
    if held >= HELD_UP_S:
        log.warning(
            "job %s: handler of state %s of %s blocked the whole node for %.1f s; move what blocks into a task, or "
            "into `await asyncio.to_thread(...)`",
            job.id,
            job.current_state,
            job.blueprint,
            held,
            extra={"job_id": job.id},
        )


def _ms(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)
