"""What survives what: nodes and workers killed while they work, checked against the workers' own logs."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.conftest import Measured
from tests.e2e.load import Load, again
from tests.e2e.processes import Node, ended_with_test, until, work_log
from tests.e2e.quick import BLUEPRINTS, QUICK

KILLS = 20


@pytest.mark.slow
async def test_i1_i3_every_accepted_job_ends_once_though_the_node_is_killed_twenty_times(
    tmp_path: Path, store: str, measured: Measured
) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    names = ("w1", "w2")
    workers = [node.worker(name, "echo_worker.py", MAX_CONCURRENT=60) for name in names]
    chance = random.Random(20)
    load = Load(tmp_path, [node], names, chance, seconds=(4.0, 8.0), room=260)

    def busy() -> bool:
        return load.logs.begun - load.logs.ended >= 100 and len(load.accepted) - load.logs.begun >= 100

    async with ended_with_test(node, *workers):
        await node.start()
        for worker in workers:
            await worker.start()
        async with load.made_by(clients=16):
            for _ in range(KILLS):
                await until(busy, "100 tasks run and 100 jobs wait", 120)
                await asyncio.sleep(chance.uniform(0, 0.5))
                await node.process.end()
                await node.start()
        measured(f"{KILLS} kills, {again(await load.judged(node))}")


@pytest.mark.slow
async def test_i6_the_tasks_of_a_killed_worker_run_again_within_one_lease(
    tmp_path: Path, store: str, measured: Measured
) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    victim, other = (node.worker(name, "echo_worker.py", MAX_CONCURRENT=8) for name in ("victim", "other"))
    async with ended_with_test(node, victim, other):
        await node.start()
        await victim.start()
        jobs = [await node.create("/jobs/echo", {"n": n, "seconds": 60}) for n in range(8)]
        await until(lambda: len(work_log(tmp_path, "victim")) == 8, "the victim holds all tasks")
        await other.start()
        await victim.end()
        killed = time.monotonic()
        await until(lambda: len(work_log(tmp_path, "other")) == 8, "the other worker has begun all tasks")
        again = time.monotonic() - killed
        log = work_log(tmp_path, "other")
        assert {line["attempt"] for line in log} == {2}
        assert {line["task"] for line in log} == {line["task"] for line in work_log(tmp_path, "victim")}
        measured(f"ran again {again:.1f} s after the kill; the lease is 5 s")
        for job in jobs:
            assert (await node.job(job))["status"] == "waiting_for_worker"


@pytest.mark.slow
async def test_i6_a_handler_that_kills_the_process_ends_alone(tmp_path: Path, store: str) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    worker = node.worker("w1", "echo_worker.py")
    async with ended_with_test(node, worker):
        await node.start()
        supervisor = asyncio.create_task(node.process.restarted())
        beside = [await node.create("/jobs/echo", {"n": n}) for n in range(10)]
        deadly, *others = await asyncio.gather(
            node.create("/jobs/deadly", {}), *(node.create("/jobs/echo", {"n": n}) for n in range(10))
        )
        job = await node.ended(deadly)
        assert (job["status"], job["error"]["code"]) == ("quarantined", "HANDLER_CRASHED")
        await worker.start()
        for other in (*beside, *others):
            assert (await node.ended(other))["status"] == "finished"
        supervisor.cancel()
        assert node.process.starts == 6
        lost = [line for line in await node.history(deadly) if line["event_type"] == "attempt_lost"]
        assert [(line["attempt_number"], line["state"]) for line in lost] == [(n, "start") for n in range(1, 6)]


async def test_a_run_of_a_handler_that_ended_with_its_node_is_in_the_history(tmp_path: Path, store: str) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    async with ended_with_test(node):
        await node.start()
        supervisor = asyncio.create_task(node.process.restarted())
        job_id = await node.create("/jobs/deadly", {"once": str(tmp_path / "died")})
        assert (await node.ended(job_id))["status"] == "finished"
        supervisor.cancel()
        lines = await node.history(job_id)
        # The run that was lost, the next one, which failed, and the third.
        kinds = "attempt_lost", "state_failed", "state_started"
        runs = [line for line in lines if line["event_type"] in kinds and line["state"] == "start"]
        assert [(line["event_type"], line["attempt_number"]) for line in runs] == [
            ("attempt_lost", 1),
            ("state_started", 2),
            ("state_failed", 2),
            ("state_started", 3),
        ]
        message = "the node that ran the handler stopped, or lost its claim on the job"
        assert runs[0]["context_snapshot"] == {"reason": "node_lost", "code": "NODE_LOST", "error": message}


@pytest.mark.slow
async def test_i6_a_task_that_kills_each_worker_ends_in_quarantine(tmp_path: Path, store: str) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    worker = node.worker("w1", "echo_worker.py")
    async with ended_with_test(node, worker):
        await node.start()
        job_id = await node.create("/jobs/poison", {})
        await worker.start()
        supervisor = asyncio.create_task(worker.restarted())
        job = await node.ended(job_id, 120)
        supervisor.cancel()
        assert (job["status"], job["error"]["code"]) == ("quarantined", "WORKER_LOST")
        assert len([line for line in work_log(tmp_path, "w1") if line["what"] == "begin"]) == 10


@pytest.mark.slow
async def test_a_fan_out_of_ten_thousand_ends_while_other_jobs_go_on(
    tmp_path: Path, store: str, measured: Measured
) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    workers = [node.worker(name, "echo_worker.py", MAX_CONCURRENT=100) for name in ("w1", "w2")]
    async with ended_with_test(node, *workers):
        await node.start()
        for worker in workers:
            await worker.start()
        large = await node.create("/jobs/fan", {"branches": 10_000})
        took: list[float] = []
        while (await node.job(large))["finished_at"] is None:
            began = time.monotonic()
            small = await node.create("/jobs/echo", {"n": len(took)})
            assert (await node.ended(small))["result"] == {"echo": len(took)}
            took.append(time.monotonic() - began)
        job = await node.job(large)
        assert job["result"] == {"sum": sum(range(10_000))}
        took.sort()
        measured(f"{len(took)} small jobs beside it, p99 {took[int(len(took) * 0.99)] * 1000:.0f} ms")
