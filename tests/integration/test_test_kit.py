"""The test kit: where a node under test has its files, and a time that tests move."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.storage import MemoryStorage
from holon.testing import ManualClock, RunningNode, running_node
from holon.worker import Progress

MEMORY = Path("/dev/shm")
GUARD = 20.0
HOUR_MS = 3_600_000


async def test_the_files_of_a_node_wait_for_no_disk_where_memory_holds_some_and_are_gone_with_it() -> None:
    async with running_node() as node:
        folder = node.folder
        assert (folder / "ca.pem").exists()
        assert folder.is_relative_to(MEMORY) or not os.access(MEMORY, os.W_OK)
    assert not folder.exists()


# A clock that is moved by hand --------------------------------------------------------------------------------------


class Held:
    """A handler that runs until it is let go, and how often it has begun."""

    def __init__(self) -> None:
        self.runs = 0
        self.began, self.may_end = asyncio.Event(), asyncio.Event()


def blueprints(held: Held) -> list[Blueprint]:
    sleeping = Blueprint("sleeping", api_endpoint="/sleeping")

    @sleeping.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.sleep(3600, "end")

    @sleeping.handler(is_end=True)
    async def end() -> None: ...

    tasks = Blueprint("tasks", api_endpoint="/tasks")

    @tasks.handler("start", is_start=True)
    async def ask(actions: ActionFactory) -> None:
        ways = {"success": "end", "timeout": "late"}
        actions.dispatch_task("work", {}, ways, dispatch_timeout_seconds=3600, result_timeout_seconds=7200)

    @tasks.handler("end", is_end=True)
    async def did(by: str = "") -> dict[str, str]:
        return {"by": by}

    @tasks.handler("late", is_end=True)
    async def late(state_history: dict[str, Any]) -> dict[str, str]:
        return {"why": state_history["error"]["code"]}

    approving = Blueprint("approving", api_endpoint="/approving")

    @approving.handler("start", is_start=True)
    async def question(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "well?", {"yes": "end", "timeout": "end"}, timeout_seconds=86_400)

    @approving.handler("end", is_end=True)
    async def decided() -> None: ...

    long = Blueprint("long", api_endpoint="/long")

    @long.handler(is_start=True, is_end=True)
    async def only() -> None:
        held.runs += 1
        held.began.set()
        await held.may_end.wait()

    above = Blueprint("above", api_endpoint="/above")

    @above.handler("start", is_start=True)
    async def run(actions: ActionFactory) -> None:
        actions.run_blueprint("long", {}, {"success": "end"})

    @above.handler("end", is_end=True)
    async def after() -> None: ...

    return [sleeping, tasks, approving, long, above]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture(params=["memory", "sqlite"])
async def node(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, held: Held
) -> AsyncIterator[RunningNode]:
    uri = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/holon.db?synchronous=NORMAL"
    async with running_node(*blueprints(held), clock=clock, STORAGE_URI=uri) as node:
        yield node


async def created(node: RunningNode, blueprint: str) -> str:
    return (await node.client.create_job(blueprint)).job_id


async def test_a_pause_is_over_when_the_clock_says_so_and_not_before(node: RunningNode, clock: ManualClock) -> None:
    job_id = await created(node, "sleeping")
    assert (await node.until(job_id, "waiting_for_timer")).created_at == 1_700_000_000
    clock.advance(HOUR_MS - 1)
    # Another job, which begins later, goes through all that the first one might have gone through.
    await node.until(await created(node, "sleeping"), "waiting_for_timer")
    assert (await node.client.get_job(job_id)).status == "waiting_for_timer"
    clock.advance(1)
    assert (await node.client.wait_for(job_id, timeout=GUARD)).finished_at == 1_700_003_600


async def test_waits_for_workers_and_people_end_by_the_clock(node: RunningNode, clock: ManualClock) -> None:
    task, question = await created(node, "tasks"), await created(node, "approving")
    await node.until(task, "waiting_for_worker")
    await node.until(question, "waiting_for_human")
    clock.advance(HOUR_MS)
    assert (await node.client.wait_for(task, timeout=GUARD)).result == {"why": "DISPATCH_TIMEOUT"}
    assert (await node.client.get_job(question)).status == "waiting_for_human"
    clock.advance(23 * HOUR_MS)
    assert (await node.client.wait_for(question, timeout=GUARD)).finished_at == 1_700_086_400


@pytest.mark.parametrize(("ms", "result"), [(20_000, {"by": "w2"}), (7_200_000, {"why": "RESULT_TIMEOUT"})])
async def test_leases_and_the_times_of_tasks_end_by_the_clock(
    clock: ManualClock, held: Held, ms: int, result: dict[str, str]
) -> None:
    # A heartbeat that is on its way when the clock is moved would keep the lease.
    async with running_node(*blueprints(held), clock=clock, HEARTBEAT_INTERVAL_SECONDS=4.5) as node:
        first, second = node.new_worker("w1"), node.new_worker("w2")

        @first.skill("work")
        async def hangs(progress: Progress) -> None:
            progress(0, "at it")
            await asyncio.Event().wait()

        @second.skill("work")
        async def works() -> dict[str, str]:
            return {"by": "w2"}

        async with first:
            job_id = await created(node, "tasks")
            await node.until(job_id, lambda job: job.progress_message == "at it")
            async with second:
                clock.advance(ms)
                assert (await node.client.wait_for(job_id, timeout=GUARD)).result == result


@pytest.mark.parametrize("blueprint", ["long", "above"])
async def test_a_handler_that_runs_while_the_clock_is_moved_runs_once(
    node: RunningNode, clock: ManualClock, held: Held, blueprint: str
) -> None:
    job_id = await created(node, blueprint)
    await held.began.wait()
    for _ in range(3):
        clock.advance(HOUR_MS)
        # Whatever was due is done by the time that this is.
        other = await created(node, "sleeping")
        await node.until(other, "waiting_for_timer")
        clock.advance(HOUR_MS)
        await node.client.wait_for(other, timeout=GUARD)
    held.may_end.set()
    assert (await node.client.wait_for(job_id, timeout=GUARD)).status == "finished"
    assert held.runs == 1


async def test_schedules_go_by_the_clock(tmp_path: Path, clock: ManualClock, held: Held) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text('[nightly]\nblueprint = "sleeping"\ninterval_seconds = 86400\n')
    async with running_node(*blueprints(held), clock=clock, SCHEDULES_CONFIG_PATH=str(file)) as node:
        clock.advance(24 * HOUR_MS)
        async with asyncio.timeout(GUARD):
            while not (jobs := [one async for one in node.client.list_jobs(owner="@scheduler")]):
                pass
        assert [job.created_at for job in jobs] == [1_700_086_400]


async def test_of_a_job_that_never_comes_to_what_is_waited_for_it_is_said_how_it_ended(node: RunningNode) -> None:
    worker = node.new_worker("w1")

    @worker.skill("work")
    async def works() -> dict[str, str]:
        return {"by": "w1"}

    async with worker:
        job_id = await created(node, "tasks")
        with pytest.raises(
            AssertionError, match=f"job {job_id} ended and never was in the expected state; .*status='finished'"
        ):
            await node.until(job_id, "waiting_for_human")


@pytest.mark.parametrize("given", [{"storage": MemoryStorage()}, {"STORAGE_URI": "redis://localhost"}])
async def test_a_store_with_a_clock_of_its_own_is_refused_beside_one(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="have clocks of their own"):
        async with running_node(clock=ManualClock(), **given):
            pass
