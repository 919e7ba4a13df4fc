"""A watcher goes on through the end of its node: nothing that happened is left out, or told twice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from holon.client import Client, Update
from tests.e2e.processes import Node, ended_with_test

BLUEPRINTS = Path(__file__).parent / "blueprints"
GUARD = 60.0
QUICK = {
    "HEARTBEAT_INTERVAL_SECONDS": 0.5,
    "WORKER_SILENCE_SECONDS": 1.5,
    "TASK_LEASE_SECONDS": 3,
    "SHUTDOWN_GRACE_SECONDS": 0.5,
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_watch_survives_a_restart_of_its_node(tmp_path: Path, store: str, number: signal.Signals) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    worker = node.worker("w1", "echo_worker.py")
    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        url = f"grpcs://localhost:{node.client}"
        async with Client(url, node.token, node.ca) as client, asyncio.timeout(GUARD):
            jobs = [(await client.create_job("echo", {"n": n, "seconds": 2})).job_id for n in range(5)]
            under_way = asyncio.Barrier(len(jobs) + 1)

            async def followed(job_id: str) -> list[Update]:
                told = []
                async for update in client.watch(job_id, after=0):
                    told.append(update)
                    if update.event is not None and update.event.event_type == "task_dispatched":
                        await under_way.wait()
                return told

            watches = [asyncio.create_task(followed(job)) for job in jobs]
            await under_way.wait()
            await node.process.end(number)
            await node.start()
            for job_id, watch in zip(jobs, watches, strict=True):
                told = await watch
                events = [update.event for update in told if update.event is not None]
                assert events == [event async for event in client.history(job_id)]
                assert [event.sequence for event in events] == list(range(1, len(events) + 1))
                assert told[-1].job is not None
                assert told[-1].job.status == "finished"
                assert len([update for update in told if update.job is not None]) >= 3
