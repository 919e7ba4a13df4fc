"""Nodes and their Redis killed while they work: every accepted job ends once, checked against the workers' own logs."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from tests.conftest import Measured
from tests.e2e.load import Load, again
from tests.e2e.processes import Node, ended_with_test, until, work_log
from tests.e2e.quick import BLUEPRINTS, QUICK
from tests.redis_server import RedisServer

KILLS = 8
pytestmark = pytest.mark.own_store("its Redis is killed too")


@pytest.mark.slow
async def test_i1_i3_every_accepted_job_ends_once_though_the_node_and_its_redis_are_killed_in_turn(
    tmp_path: Path, measured: Measured
) -> None:
    server = RedisServer(append_only=True)
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=server.uri(), INSTANCE_ID="a")
    names = ("w1", "w2")
    workers = [node.worker(name, "echo_worker.py", MAX_CONCURRENT=30) for name in names]
    chance = random.Random(20)
    load = Load(tmp_path, [node], names, chance, seconds=(2.0, 4.0), room=120)
    try:
        async with ended_with_test(node, *workers):
            await node.start()
            for worker in workers:
                await worker.start()
            async with load.made_by(clients=16):
                for number in range(KILLS):
                    await until(lambda: load.logs.begun - load.logs.ended >= 40, "40 tasks run", 120)
                    await asyncio.sleep(chance.uniform(0, 0.5))
                    if number % 2:
                        await node.process.end()
                        await node.start()
                    else:
                        server.kill()
                        await asyncio.sleep(chance.uniform(0, 1.0))
                        server.start()
            measured(f"{KILLS} kills, {again(await load.judged(node))}")
    finally:
        server.close()


async def test_i10_who_waits_for_a_redis_that_is_away_hears_so_before_the_node_has_ended(tmp_path: Path) -> None:
    server = RedisServer(append_only=True)
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=server.uri(), INSTANCE_ID="a", SHUTDOWN_GRACE_SECONDS=0)
    worker = node.worker("w1", "echo_worker.py")
    try:
        async with ended_with_test(node, worker):
            await node.start()
            await worker.start()
            job_id = await node.create("/jobs/echo", {"n": 1, "seconds": 0.5})
            await until(lambda: work_log(tmp_path, "w1"), "a task runs")
            server.kill()
            await until(lambda: "end" in {line["what"] for line in work_log(tmp_path, "w1")}, "it has ended")
            assert await node.process.end(signal.SIGTERM) == 0
            assert "Traceback" not in node.process.tail()
            assert "Aborting" not in node.process.tail()
            server.start()
            await node.start()
            assert (await node.ended(job_id))["status"] == "finished"
    finally:
        server.close()
