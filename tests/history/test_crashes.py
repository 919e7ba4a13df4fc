"""The node and PostgreSQL are killed in turn while jobs run: each line of history is kept, once, in its place."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Measured
from tests.e2e.load import Load
from tests.e2e.processes import Node, ended_with_test, until
from tests.e2e.quick import BLUEPRINTS, QUICK
from tests.history.postgres import Server

KILLS = 4


@pytest.mark.slow
async def test_kills_of_the_node_and_of_the_database_lose_and_double_no_line(
    tmp_path: Path, own: Server, measured: Measured
) -> None:
    uri = own.database()
    node = Node(tmp_path, BLUEPRINTS, HISTORY_DATABASE_URI=uri, **QUICK)
    worker = node.worker("w1", "echo_worker.py", MAX_CONCURRENT=60)
    chance = random.Random(6)
    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        load = Load(tmp_path, [node], ("w1",), chance, seconds=(0.01, 0.01), room=100)
        async with load.made_by(clients=8):
            for turn in range(KILLS):
                await until(partial(_reached, load, len(load.accepted) + 100), "a hundred more jobs are accepted", 120)
                await asyncio.sleep(chance.uniform(0, 0.3))
                if turn % 2:
                    await asyncio.to_thread(own.start)
                    await node.process.end()
                    await node.start()
                else:
                    await asyncio.to_thread(own.kill)
        told = {}
        for job_id in load.accepted:
            assert (await node.ended(job_id, 120))["status"] == "finished"
            told[job_id] = await node.history(job_id)
            assert [event["sequence"] for event in told[job_id]] == list(range(1, len(told[job_id]) + 1))
            assert [event["event_type"] for event in told[job_id]].count("job_completed") == 1
        lines = sum(map(len, told.values()))
        count = "SELECT count(*) FROM holon_history"
        await until(lambda: own.sql(count, uri) == [str(lines)], "all of it has moved", 120)
        ends = "SELECT job FROM holon_history WHERE type = 'job_completed'"
        assert sorted(own.sql(ends, uri)) == sorted(load.accepted)
        assert own.sql("SELECT DISTINCT status FROM holon_jobs", uri) == ["finished"]
        measured(
            f"{len(load.accepted)} jobs, {KILLS // 2} kills of PostgreSQL and of the node: {lines} lines, each once"
        )


def _reached(load: Load, wanted: int) -> bool:
    return len(load.accepted) >= wanted
