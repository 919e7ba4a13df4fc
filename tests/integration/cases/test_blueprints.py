"""Acceptance: what a blueprint may look like, and where its states lead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon import Blueprint, OrchestratorEngine
from holon.config import Config
from holon.context import ActionFactory
from holon.errors import BlueprintError
from holon.storage import MemoryStorage
from holon.testing import RunningNode, running_node
from holon.worker import Worker
from tests.integration.cases.site import GUARD, LOOK_S, NEVER, Start, create, ended, happened, history
from tests.redis_server import RedisServer


def blueprint(name: str = "bp") -> Blueprint:
    return Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")


def register(*blueprints: Blueprint) -> None:
    engine = OrchestratorEngine(MemoryStorage(), Config({}))
    for one in blueprints:
        engine.register_blueprint(one)


def sound(name: str = "bp") -> Blueprint:
    bp = blueprint(name)

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def test_b01_an_end_is_a_success_whatever_its_name(start: Start) -> None:
    async with start(sound()) as node:
        job = await node.run("bp", {"n": 1})
        assert (job.status, job.current_state) == ("finished", "end")


@pytest.mark.parametrize(
    ("name", "outcome", "status"),
    [
        ("finished", None, "finished"),
        ("failed", None, "failed"),
        ("failed", "finished", "finished"),
        ("success", "failed", "failed"),
    ],
)
async def test_b01_an_end_named_failed_fails_and_an_outcome_that_is_said_wins(
    start: Start, name: str, outcome: Any, status: str
) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.go_to(name)

    @bp.handler(name, is_end=True, outcome=outcome)
    async def last() -> None: ...

    async with start(bp) as node:
        job = await node.run("bp", {})
        assert (job.status, job.current_state) == (status, name)


async def test_b01_a_start_may_be_the_end_and_an_end_may_go_on(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True, is_end=True)
    async def only(state_history: dict[str, Any], actions: ActionFactory) -> str | None:
        state_history["runs"] = state_history.get("runs", 0) + 1
        if state_history["runs"] < 3:
            actions.go_to("only")
        return "enough"

    async with start(bp) as node:
        job = await node.run("bp", {})
        assert (job.status, job.result) == ("finished", "enough")
        assert len(await history(node, job.id, "state_started")) == 3


async def test_a_chain_of_states_hands_its_data_on_step_by_step(start: Start) -> None:
    bp = blueprint()

    def link(number: int) -> None:
        @bp.handler(f"s{number}", is_start=number == 0)
        async def step(state_history: dict[str, Any], actions: ActionFactory) -> None:
            state_history.setdefault("path", []).append(number)
            actions.go_to(f"s{number + 1}")

    for number in range(20):
        link(number)

    @bp.handler("s20", is_end=True)
    async def last() -> None: ...

    async with start(bp) as node:
        job = await node.run("bp", {})
        assert (job.status, job.result) == ("finished", {"path": list(range(20))})
        told = await history(node, job.id, "state_finished")
        assert [event.next_state for event in told] == [f"s{number}" for number in range(1, 21)] + [None]


# What is not registered ------------------------------------------------------------------------------------------


def test_b02_a_blueprint_without_a_start_is_refused() -> None:
    bp = blueprint()

    @bp.handler(is_end=True)
    async def end() -> None: ...

    with pytest.raises(BlueprintError, match=r"bp.*no start state"):
        register(bp)


def test_b02_a_second_start_is_refused() -> None:
    bp = sound()
    with pytest.raises(BlueprintError, match="exactly one start state"):

        @bp.handler(is_start=True)
        async def another() -> None: ...


def test_b02_a_second_handler_or_aggregator_of_a_state_is_refused() -> None:
    bp = sound()

    @bp.aggregator
    async def collect() -> None: ...

    for again in (bp.handler("end"), bp.aggregator("collect"), bp.handler("collect")):
        with pytest.raises(BlueprintError, match=r"state '(end|collect)' .* already defined"):
            again(_empty)


async def _empty() -> None: ...


def test_b02_a_second_blueprint_of_a_name_or_path_is_refused() -> None:
    with pytest.raises(BlueprintError, match="'bp' is already registered"):
        register(sound(), sound())
    other = sound("other")
    other.api_endpoint = "/jobs/bp"
    with pytest.raises(BlueprintError, match=r"/api/v1/jobs/bp.*'bp'"):
        register(sound(), other)


def test_b03_a_way_to_a_state_that_does_not_exist_is_refused() -> None:
    going = blueprint()

    @going.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.go_to("nowhere")

    dispatching = blueprint()

    @dispatching.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "nowhere"})

    positional = blueprint()

    @positional.handler(is_start=True)
    async def fan(actions: ActionFactory) -> None:
        actions.dispatch_parallel([], "nowhere")

    for bp in (going, dispatching, positional):
        with pytest.raises(BlueprintError, match="nowhere"):
            register(bp)


def test_b04_a_state_nobody_leads_to_is_refused() -> None:
    bp = sound()

    @bp.handler
    async def island(actions: ActionFactory) -> None:
        actions.go_to("end")

    with pytest.raises(BlueprintError, match="island"):
        register(bp)


async def test_a_state_chosen_at_run_time_that_does_not_exist_quarantines_and_is_named(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to(initial_data["to"])

    async with start(bp, **NEVER) as node:
        job = await node.run("bp", {"to": "nowhere"})
        assert job.status == "quarantined"
        assert job.error is not None
        assert job.error.code == "STATE_NOT_FOUND"
        assert "'nowhere'" in job.error.message
        assert (job.current_state, job.error.message[-34:]) == ("begin", 'actions.go_to(initial_data["to"]))')


def branching() -> Blueprint:
    bp = blueprint("branching")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end", "needs_reviw": "end", "sucess": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


def offers(node: RunningNode, worker_id: str, *statuses: str) -> Worker:
    worker = node.new_worker(worker_id)

    @worker.skill("t", statuses=statuses)
    async def t() -> None: ...

    return worker


def said_of(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """The warnings about statuses since the last call, by status."""
    said = [one.getMessage() for one in caplog.records if "has a transition for the status" in one.getMessage()]
    caplog.clear()
    found = {one.partition("the status '")[2].partition("'")[0]: one for one in said}
    assert len(found) == len(said), said
    return found


async def test_a_status_that_no_known_offering_declares_is_warned_of_until_one_does(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    place = f"blueprint branching: state 'begin' ({__file__}:"
    async with start(branching()) as node:
        # Of what skills declare nothing is known yet.
        said = said_of(caplog)
        assert list(said) == ["sucess"]
        assert said["sucess"].startswith(place)
        assert said["sucess"].endswith("which a worker only returns if it declares it (did you mean 'success'?)")
        async with offers(node, "w1", "needs_review") as w1:
            await w1.ready()
            said = said_of(caplog)
            assert list(said) == ["needs_reviw"]
            assert said["needs_reviw"].startswith(place)
            assert said["needs_reviw"].endswith(
                "which no connected worker with skill 't' declares (did you mean 'needs_review'?); they declare "
                "needs_review. The task waits until a worker declares it"
            )
            # The same again is not said again, and no more of who does not say what he may end with.
            async with offers(node, "w2", "needs_review") as w2:
                await w2.ready()
                assert said_of(caplog) == {}
            async with offers(node, "w3") as w3:
                await w3.ready()
                assert said_of(caplog) == {}
            async with offers(node, "w4", "needs_review", "needs_reviw", "sucess") as w4:
                await w4.ready()
                assert said_of(caplog) == {}
            # It was declared, and is not now.
            async with offers(node, "w5", "needs_review") as w5:
                await w5.ready()
                assert list(said_of(caplog)) == ["needs_reviw", "sucess"]


async def test_statuses_that_workers_of_other_nodes_declare_are_known_at_the_start(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = redis.uri(redis.database())
    async with (
        running_node(STORAGE_URI=store, INSTANCE_ID="first") as first,
        offers(first, "w1", "needs_review") as worker,
        running_node(branching(), STORAGE_URI=store, INSTANCE_ID="second") as second,
    ):
        await worker.ready()
        async with asyncio.timeout(GUARD):
            # The other node tells of it.
            while not [one async for one in second.client.node.list_workers()]:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        assert said_of(caplog).keys() == {"needs_reviw", "sucess"}
        async with running_node(branching(), STORAGE_URI=store, INSTANCE_ID="third"):
            said = said_of(caplog)
    assert [said[status].partition("they declare ")[2][:13] for status in ("needs_reviw", "sucess")] == [
        "needs_review."
    ] * 2


# Many at once ----------------------------------------------------------------------------------------------------


async def test_b25_fifty_jobs_run_their_handlers_at_once_and_all_end(start: Start) -> None:
    bp = blueprint()
    together = asyncio.Barrier(50)

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        await together.wait()
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        jobs = await asyncio.gather(*(create(node, "bp", {"n": n}) for n in range(50)))
        statuses = [(await ended(node, job_id)).status for job_id in jobs]
        assert statuses == ["finished"] * 50


@pytest.mark.one_node
async def test_b26_no_more_handlers_run_at_once_than_the_setting_allows(start: Start) -> None:
    bp = blueprint()
    running, peak = 0, 0
    began, go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)

    @bp.handler(is_start=True, is_end=True)
    async def only() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        began.release()
        await go_on.acquire()
        running -= 1

    async with start(bp, EXECUTOR_MAX_CONCURRENT_JOBS=2) as node:
        most = 2
        jobs = [await create(node, "bp", {}) for _ in range(10)]
        for _ in range(most):
            await happened(began)
        statuses = [(await node.client.get_job(job_id)).status for job_id in jobs]
        assert sorted(statuses) == ["pending"] * (10 - most) + ["running"] * most
        for _ in jobs:
            go_on.release()
        assert [(await ended(node, job_id)).status for job_id in jobs] == ["finished"] * 10
        assert peak == most
