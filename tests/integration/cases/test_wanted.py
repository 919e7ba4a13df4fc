"""Acceptance: a task goes to who has what it asks for beside the skill, on every store."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

from holon.testing import RunningNode
from tests.integration.cases.site import GUARD, Start, a_wire, create, ended, fan_out, http, one_task, seen
from tests.integration.cases.waiting import doing
from tests.integration.grpc_node import offering, result, updates

SKILL = "waiting: no worker connected to this node offers skill 't'"


async def test_a_task_waits_for_a_worker_with_its_version_and_type(start: Start) -> None:
    second = one_task(name="second", skill_version="2", skill_type="gpu")
    async with start(one_task(), second) as node:
        any_id, second_id = await create(node, "one_task", {}), await create(node, "second", {})
        async with a_wire(node, "w1", offering("t", version="1", type="gpu"), credits=2) as first:
            given = await first.offer()
            assert (given.job_id, given.version, given.type) == (any_id, "1", "gpu")
            await first.send(updates(result(given)))
            await ended(node, any_id)
            job = await seen(node, second_id, lambda job: job.progress_message)
            assert job.progress_message == f"{SKILL} in version '2' and type 'gpu'"
            both = (offering("t", version="2"), offering("t", version="2", type="gpu"))
            async with a_wire(node, "w2", *both, credits=2) as other:
                given = await other.offer()
                assert (given.job_id, given.version, given.type) == (second_id, "2", "gpu")
                await other.send(updates(result(given)))
                assert (await ended(node, second_id)).status == "finished"


async def test_each_branch_goes_to_the_version_that_it_asks_for(start: Start) -> None:
    tasks = [{"task_type": "t", "skill_version": version} for version in ("1", "2", "1")]
    async with (
        start(fan_out(tasks)) as node,
        a_wire(node, "w1", offering("t", version="1"), credits=3) as first,
        a_wire(node, "w2", offering("t", version="2"), credits=3) as second,
    ):
        job_id = await create(node, "fan_out", {})
        for wire, version in ((second, "2"), (first, "1"), (first, "1")):
            given = await wire.offer()
            assert given.version == version
            await wire.send(updates(result(given, {"by": version})))
        results = (await ended(node, job_id)).result["results"]
        assert [one["data"]["by"] for one in results] == ["1", "2", "1"]


GPU = {"type": "gpu", "model": "RTX", "vram_gb": 24}
REQUIRED = {"resources": {"ram_gb": 16, "cpu_cores": 8, "devices": [GPU]}}
MACHINES = {
    "little": {"ram_gb": 8, "cpu_cores": 8, "devices": [{**GPU, "model": "RTX 3090"}]},
    "old": {"ram_gb": 64, "cpu_cores": 16, "devices": [{**GPU, "model": "Tesla T4"}]},
    "bare": {"ram_gb": 64, "cpu_cores": 16},
    "large": {"ram_gb": 16, "cpu_cores": 12, "devices": [{"type": "tpu"}, {**GPU, "model": "NVIDIA RTX 4090"}]},
}


async def test_e13_a_task_goes_to_a_worker_whose_machine_has_what_it_requires(start: Start) -> None:
    async with start(one_task(name="large", resource_requirements=REQUIRED)) as node:
        job_id = await create(node, "large", {})
        async with doing(node, "unsaid"):
            job = await seen(node, job_id, lambda job: "hardware" in (job.progress_message or ""))
            lacks = "waiting: no worker connected to this node with skill 't' has the required hardware: "
            assert job.progress_message == lacks + "no worker reports its hardware"
            async with AsyncExitStack() as others:
                for name in ("little", "old", "bare"):
                    await others.enter_async_context(doing(node, name, resources=MACHINES[name]))
                nearest = lacks + "the closest machine lacks "
                job = await seen(node, job_id, lambda job: nearest in (job.progress_message or ""))
                assert job.status == "waiting_for_worker"
                async with doing(node, "large", resources=MACHINES["large"]):
                    assert (await ended(node, job_id)).result["by"] == "large"


async def test_each_branch_goes_to_a_machine_that_has_what_it_requires(start: Start) -> None:
    tasks = [{"task_type": "t", "resource_requirements": {"resources": {"ram_gb": n}}} for n in (8, 64, 8)]
    machine = {"ram_gb": 64}
    async with start(fan_out([*tasks, {"task_type": "t"}])) as node:
        job_id = await create(node, "fan_out", {})
        async with doing(node, "large", resources=machine):
            results = (await ended(node, job_id)).result["results"]
        assert [one["data"]["by"] for one in results] == ["large"] * 4


# Whom it would rather have -----------------------------------------------------------------------------------------


async def held(node: RunningNode) -> dict[str, int]:
    return {one.worker_id: one.held async for one in node.client.node.list_workers()}


async def test_e01_the_cheapest_worker_gets_it(start: Start) -> None:
    async with start(one_task(name="cheap", dispatch_strategy="cheapest")) as node, AsyncExitStack() as workers:
        wires = []
        for price in (5, 1, 3):
            wire = a_wire(node, f"w{price}", offering("t", price=price), credits=1)
            wires.append(await workers.enter_async_context(wire))
        job_id = await create(node, "cheap", {})
        given = await wires[1].offer()
        assert given.job_id == job_id
        # Who is dearer is not kept from it: the cheapest has no room for another.
        await create(node, "cheap", {})
        await wires[2].offer()


async def test_e08_a_burst_is_spread_before_any_of_them_tells_how_busy_it_is(start: Start) -> None:
    branches = [{"task_type": "t", "dispatch_strategy": "least_connections"}] * 4
    async with (
        start(fan_out(branches), one_task(dispatch_strategy="least_connections")) as node,
        a_wire(node, "w1", credits=10) as first,
        a_wire(node, "w2", credits=20) as second,
    ):
        await create(node, "fan_out", {})
        for wire in (first, first, second, second):
            await wire.offer()
        assert await held(node) == {"w1": 2, "w2": 2}
        for _ in range(4):
            await create(node, "one_task", {})
        for wire in (first, first, second, second):
            await wire.offer()


async def test_e09_a_worker_that_has_the_skill_loaded_gets_it_though_another_is_cheaper(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "cold", offering("t", price=1), credits=9) as cold:
        worker = doing(node, "hot", max_concurrent=1)
        worker.warm(skills=["t"])
        async with worker:
            await worker.ready()
            for _ in range(5):
                assert (await ended(node, await create(node, "one_task", {}))).result["by"] == "hot"
            assert await given_loaded(node) == {"skill": 5, "hint": 0}
            # It says that it has it no more, and the others get as much as it does.
            worker.warm()
            async with asyncio.timeout(GUARD):
                while not (await held(node))["cold"]:
                    await create(node, "one_task", {})
            await cold.offer()


async def test_e11_a_worker_that_has_what_the_task_hints_at_gets_it(start: Start) -> None:
    async with start(one_task(resource_hint="llama")) as node, a_wire(node, "other", credits=9) as other:
        worker = doing(node, "has", max_concurrent=1)
        worker.warm(cached=["phi", "llama"])
        async with worker:
            await worker.ready()
            for _ in range(5):
                assert (await ended(node, await create(node, "one_task", {}))).result["by"] == "has"
        # It is a preference: nobody waits for it.
        job_id = await create(node, "one_task", {})
        given = await other.offer()
        assert (given.job_id, given.resource_hint) == (job_id, "llama")
        assert await given_loaded(node) == {"skill": 0, "hint": 5}


async def given_loaded(node: RunningNode) -> dict[str, int]:
    """How many tasks were given to who had them loaded, as the node counts them."""
    async with http(node) as client:
        figures = (await client.get("/_public/metrics")).text
    counted = re.findall(r'^orchestrator_tasks_hot_dispatched_total\{kind="(\w+)"\} ([\d.]+)$', figures, re.MULTILINE)
    return {kind: int(float(count)) for kind, count in counted}
