"""Handlers: called with their arguments by name; what they decide, or that they failed, is a change of their job."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from holon.context import ActionFactory, ClientConfig, JobContext, arguments
from holon.domain import machine
from holon.domain.blueprint import State
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, JobError
from holon.domain.machine import Change, Limits
from holon.domain.value import replace
from holon.engine.blueprints import Blueprints
from holon.errors import HolonError
from holon.telemetry.events import Telemetry

log = logging.getLogger(__name__)


class _Suspended(Exception):
    """Internal: a handler that was to run at once waits for something."""


class _Watched:
    """Awaits a handler, and knows afterwards whether it ever waited for anything; `count` is told when it does."""

    __slots__ = ("_count", "_handler", "waited")

    def __init__(self, handler: Awaitable[Any], count: Callable[[int], None]) -> None:
        self._handler = handler
        self._count = count
        self.waited = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._handler.__await__()
        try:
            pending = next(steps)
            self.waited = True
            self._count(1)
            while True:
                try:
                    sent = yield pending
                except BaseException as thrown:  # noqa: BLE001  it is the handler's, a cancel too
                    pending = steps.throw(thrown)
                else:
                    pending = steps.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            if self.waited:
                self._count(-1)


class Handlers:
    """Runs the handlers of registered blueprints.

    Arguments:
        now: the store's clock, in epoch milliseconds.
        telemetry: where failures are counted, and steps traced.

    Attributes:
        waiting: how many of them wait for something now.
        ending: whether who runs them is being ended: a cancel that is not meant came out of a handler, and is its
            failure.
    """

    def __init__(self, blueprints: Blueprints, limits: Limits, now: Callable[[], int], telemetry: Telemetry) -> None:
        self._blueprints = blueprints
        self._limits = limits
        self._now = now
        self._telemetry = telemetry
        self._prompt: set[tuple[str, str]] = set()
        self.waiting = 0
        self.ending: Callable[[], bool] = lambda: False

    def _count(self, by: int) -> None:
        self.waiting += by

    def prompt(self, job: Job) -> bool:
        """Whether the handler of a job's state has ended well here before, and never waited for anything."""
        return (job.blueprint, job.current_state) in self._prompt

    async def run(self, job: Job, results: Mapping[str, Any], before: tuple[HistoryEvent, ...]) -> Change:
        """Run the handler of a job's state; what it raises is its job's failure, not ours. On cancel it is void.

        Arguments:
            results: of the fan-out that led here, by task id.
            before: lines of history that go before this run's.
        """
        return await self._run(job, results, before, self._awaited)

    def run_now(self, job: Job, before: tuple[HistoryEvent, ...]) -> Change | None:
        """The same for a `prompt` handler, without any wait; None when it waits after all, and what it did is void."""
        running = self._run(job, {}, before, _at_once)
        try:
            running.send(None)
        except StopIteration as stop:
            change: Change = stop.value
            return change
        except _Suspended:
            self._prompt.discard((job.blueprint, job.current_state))
            return None
        raise AssertionError("a handler that runs at once suspends nobody")

    async def _awaited(self, handler: Awaitable[Any]) -> tuple[Any, bool]:
        watched = _Watched(handler, self._count)
        returned = await watched
        return returned, watched.waited

    async def _run(
        self,
        job: Job,
        results: Mapping[str, Any],
        before: tuple[HistoryEvent, ...],
        call: Callable[[Awaitable[Any]], Awaitable[tuple[Any, bool]]],
    ) -> Change:
        before = (*before, machine.started(job, self._now()))
        began = time.perf_counter()
        # What a handler changes counts only if its step is stored: it works on a copy.
        initial_data, state_history = orjson.loads(orjson.dumps((job.initial_data, job.state_history)))
        actions = ActionFactory()
        span = self._telemetry.tracing.step(job)
        try:
            state = self._state(job)
            client = ClientConfig(job.owner, job.plan, orjson.loads(job.client_params) if job.client_params else {})
            context = JobContext(
                job.id,
                job.blueprint,
                job.current_state,
                initial_data,
                state_history,
                dict(results),
                actions,
                client,
            )
            with span:
                returned, waited = await call(state.function(**arguments(state, context)))
        except _Suspended:
            raise
        except GeneratorExit:
            raise
        except BaseException as error:  # it is the user's code; a signal is no exception here
            if isinstance(error, asyncio.CancelledError) and self.ending() and call is not _at_once:
                raise
            span.end(_said(error))
            return self._raised(job, error, _ms(began), before)
        key = (job.blueprint, job.current_state)
        (self._prompt.discard if waited else self._prompt.add)(key)
        span.end()
        change = machine.decide(
            job,
            state,
            actions.decision,
            returned,
            self._limits,
            self._now(),
            _ms(began),
            state_history=state_history,
            before=before,
        )
        return replace(change, trace=span.trace) if span.trace else change

    def _state(self, job: Job) -> State:
        blueprint = self._blueprints.get(job.blueprint)
        if blueprint is None:
            raise HolonError(f"this node has no blueprint named {job.blueprint!r}", code="BLUEPRINT_NOT_FOUND")
        state = blueprint.states.get(job.current_state)
        if state is None:
            message = f"blueprint {job.blueprint!r} has no state named {job.current_state!r}"
            raise HolonError(message, code="STATE_NOT_FOUND")
        return state

    def _raised(self, job: Job, error: BaseException, took: int, before: tuple[HistoryEvent, ...]) -> Change:
        self._telemetry.metrics.handler_failures.add(job.blueprint)
        ours = isinstance(error, HolonError)
        code = error.code if isinstance(error, HolonError) else "HANDLER_ERROR"
        message = _text(error.message) if isinstance(error, HolonError) else _said(error)
        log.warning(
            "job %s: handler of state %s failed: %s",
            job.id,
            job.current_state,
            message,
            exc_info=None if ours else error,
            extra={"job_id": job.id},
        )
        return self.failed(job, JobError(code, message), took, before)

    def failed(self, job: Job, error: JobError, took: int, before: tuple[HistoryEvent, ...] = ()) -> Change:
        """The handler of a job's state has failed: again after a while, or never."""
        return machine.handler_failed(job, error, self._limits, self._now(), took, _jitter(), before=before)

    def stays(self, job: Job) -> Change:
        """A job that nothing has changed, as it goes on waiting."""
        return machine.stays(job, self._limits, _jitter())


def _jitter() -> float:
    return random.random()  # noqa: S311  it hides nothing


async def _at_once(handler: Awaitable[Any]) -> tuple[Any, bool]:
    steps = handler.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value, False
    with suppress(BaseException):
        steps.close()
    raise _Suspended


def _said(error: BaseException) -> str:
    """What an exception says, with its kind."""
    kind = type(error).__name__
    if isinstance(error, asyncio.CancelledError) and not error.args:
        return f"{kind}: what the handler waited for was cancelled"
    return f"{kind}: {_text(error)}"


def _text(said: object) -> str:
    """Text of what a user's code has made; as the name of a file may be, it may be what no store can write."""
    try:
        return str(said).encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001  likewise the user's code
        return "(its text cannot be told)"


def _ms(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)
