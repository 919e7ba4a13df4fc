"""Which handlers may be run ahead of a store's call: each that awaits nothing and has ended well here before."""

from __future__ import annotations

from typing import Any

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.change import Limits
from holon.domain.job import Job, Status
from holon.domain.task import RetryPolicy
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.engine.handlers import Handlers
from holon.engine.outputs import Outputs
from holon.engine.sent_events import SentEvents
from holon.telemetry.events import Telemetry


def handlers_of(blueprint: Blueprint) -> Handlers:
    blueprints = Blueprints(Contracts())
    blueprints.register(blueprint)
    events = SentEvents(blueprints, Contracts(), strict=True)
    calling: Any = None
    outputs = Outputs(blueprints, Contracts())
    return Handlers(blueprints, Limits(10, RetryPolicy()), lambda: 0, Telemetry(), events, calling, outputs)


def job(**initial_data: Any) -> Job:
    return Job("0-a", "one", "ann", initial_data, "start", Status.RUNNING)


async def test_of_several_handlers_of_a_state_only_those_count_that_have_ended_well() -> None:
    one = Blueprint("one")

    @one.handler("start", is_start=True, is_end=True).when("context.initial_data.n == 1")
    async def first(actions: ActionFactory) -> None: ...

    @one.handler("start").when("context.initial_data.n == 2")
    async def failing(actions: ActionFactory) -> None:
        raise OSError

    @one.handler("start")
    async def other(actions: ActionFactory) -> None: ...

    handlers = handlers_of(one)
    assert [handlers.prompt(job(n=n)) for n in (1, 2, 3)] == [False, False, False]
    for n in (1, 2):
        await handlers.run(job(n=n), {}, ())
    assert [handlers.prompt(job(n=n)) for n in (1, 2, 3)] == [True, False, False]
    await handlers.run(job(n=3), {}, ())
    assert [handlers.prompt(job(n=n)) for n in (1, 2, 3)] == [True, False, True]


async def test_a_job_that_no_handler_is_for_is_not_run_ahead() -> None:
    one = Blueprint("one")
    for n in (1, 2):

        async def some() -> None: ...

        one.handler("start", is_start=True, is_end=True).when(f"context.initial_data.n == {n}")(some)
    handlers = handlers_of(one)
    await handlers.run(job(n=1), {}, ())
    assert [handlers.prompt(job(n=n)) for n in (1, 2, 3)] == [True, False, False]


async def test_the_only_handler_of_a_state_is_known_by_its_state() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True, is_end=True)
    async def start() -> None: ...

    handlers = handlers_of(one)
    assert not handlers.prompt(job())
    await handlers.run(job(), {}, ())
    assert handlers.prompt(job())
