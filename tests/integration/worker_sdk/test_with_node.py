"""The worker SDK and the real worker door together: a whole job, a cancel, a replacement, a drain of either side."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Literal

import orjson
import pytest

from holon.worker import Replaced, Result, TaskError, Worker
from tests.integration.grpc_node import Node, a_node, authority, worker_files
from tests.integration.scripted_node import FAST, GUARD, serving


def worker_of(node: Node) -> Worker:
    files = worker_files("w1")
    worker = Worker(
        f"grpcs://localhost:{node.workers.port}",
        worker_id="",
        token="",
        ca_path=authority("ours").files.certificate,
        cert_path=files.certificate,
        key_path=files.key,
        timing=FAST,
    )

    @worker.skill("t")
    async def double(n: int = 0) -> dict[str, int]:
        if n < 0:
            raise TaskError("PERMANENT_ERROR", "n is below zero", {"n": n})
        return {"double": 2 * n}

    return worker


async def test_jobs_run_to_their_end_and_leaving_is_seen_as_leaving() -> None:
    async with a_node() as node:
        async with worker_of(node) as worker:
            jobs = [await node.create(n=number) for number in range(20)]
            ended = [await node.ended(job_id) for job_id in jobs]
            assert [job.status for job in ended] == ["finished"] * 20
            assert all(orjson.loads(job.result.data)["double"] == 2 * n for n, job in enumerate(ended))
            failed = await node.ended(await node.create(n=-1))
            assert failed.status == "failed"
        assert "not running" in repr(worker)


async def test_of_a_skill_in_several_versions_the_one_runs_that_the_params_fit_and_is_held_to_its_own_contract() -> (
    None
):
    async with a_node() as node:
        worker = worker_of(node)

        @worker.skill("several", version="2")
        def newer(x: int) -> dict[Literal["newer"], int]:
            return {"newer": x}

        @worker.skill("several")
        def plain(y: int) -> dict[Literal["plain"], int]:
            return {"plain": y}

        @worker.skill("several", type="other")
        async def other(z: int) -> dict[Literal["other"], int]:
            return {"other": z}

        async with worker:
            for name, answer in (("x", "newer"), ("y", "plain"), ("z", "other")):
                job = await node.ended(await node.create(skill="several", **{name: 7}))
                assert job.status == "finished"
                assert orjson.loads(job.result.data)[answer] == 7


async def test_a_cancel_reaches_the_handler() -> None:
    stopped = threading.Event()
    async with a_node() as node:
        worker = worker_of(node)
        began = asyncio.Semaphore(0)

        @worker.skill("long")
        async def long() -> Result:
            began.release()
            try:
                await asyncio.sleep(GUARD)
            finally:
                stopped.set()
            return Result()

        async with serving(worker):
            job_id = await node.create(skill="long")
            await asyncio.wait_for(began.acquire(), GUARD)
            await node.cancel(job_id)
            assert (await node.ended(job_id)).status == "cancelled"
            assert await asyncio.to_thread(stopped.wait, GUARD)


async def test_the_newer_of_two_processes_has_the_id() -> None:
    async with a_node() as node:
        older, newer = worker_of(node), worker_of(node)
        async with serving(older) as task:
            await asyncio.sleep(0)
            await asyncio.wait_for(older.ready(), GUARD)
            async with serving(newer):
                with pytest.raises(Replaced):
                    await asyncio.wait_for(task, GUARD)
                assert (await node.ended(await node.create(n=1))).status == "finished"


async def test_a_worker_whose_streams_become_old_goes_on_over_others_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with a_node(rotation=0.1, moving=GUARD) as node, worker_of(node):
        jobs: list[str] = []
        # Five streams at least.
        while caplog.text.count("opened") < 5:
            jobs.append(await node.create(n=len(jobs)))
            await asyncio.sleep(0.005)
        ended = [await node.ended(job_id) for job_id in jobs]
        assert {job.status for job in ended} == {"finished"}
        assert all(orjson.loads(job.result.data)["double"] == 2 * n for n, job in enumerate(ended))
    assert "STREAM_OLD" not in caplog.text
    assert "LOST" not in caplog.text
