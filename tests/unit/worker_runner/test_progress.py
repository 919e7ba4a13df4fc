"""The progress that handlers tell: the newest, in time, and none after the end."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from holon.rxon.v1 import worker_pb2
from holon.worker import Progress, TaskError
from tests.unit.worker_runner.bench import TIMING, Make


async def test_progress_is_cut_to_a_hundred_and_the_newest_wins(bench: Make) -> None:
    go_on = threading.Event()

    def work(progress: Progress) -> None:
        for percent in (-5, 50, 250):
            progress(percent, "on")
        progress(float("nan"), "caf\udce9")
        assert go_on.wait(60)

    made = bench(work)
    made.offer("work")
    seen: list[worker_pb2.TaskProgress] = []
    while not seen or seen[-1].message != r"caf\udce9":
        update = await made.updates.next()
        if update.HasField("progress"):
            seen.append(update.progress)
    assert all(0 <= one.percent <= 100 for one in seen)
    assert not seen[-1].HasField("percent")
    go_on.set()
    await made.updates.final()
    assert made.updates.all[0].HasField("accepted")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_last_progress_goes_before_the_final_word(bench: Make, is_async: bool, fails: bool) -> None:
    told = threading.Event()

    def count(progress: Progress) -> None:
        for number in range(1, 20):
            progress(number * 5, f"i={number}")
        progress(100, "all done")
        if fails:
            raise TaskError("PERMANENT_ERROR", "on purpose")

    def work(progress: Progress) -> None:
        progress(0, "begun")
        assert told.wait(60)
        count(progress)

    async def work_async(progress: Progress) -> None:
        progress(0, "begun")
        await asyncio.to_thread(told.wait, 60)
        count(progress)

    made = bench(work_async if is_async else work, timing=replace(TIMING, progress_every=3600))
    made.offer("work_async" if is_async else "work")
    while (await made.updates.next()).progress.message != "begun":
        pass
    told.set()
    await made.updates.final()
    kinds = [update.WhichOneof("update") for update in made.updates.all]
    assert kinds == ["accepted", "progress", "progress", "result"]
    last = made.updates.all[-2].progress
    assert (last.percent, last.message) == (100, "all done")


async def test_no_progress_is_told_of_a_task_after_its_stop(bench: Make) -> None:
    async def work(progress: Progress) -> None:
        progress(1, "first")
        try:
            await asyncio.Event().wait()
        finally:
            progress(2, "stopping")

    made = bench(work, timing=replace(TIMING, progress_every=3600))
    lease = made.offer("work")
    while (await made.updates.next()).progress.message != "first":
        pass
    made.runner.stopped(lease, "CANCELLED", 60)
    assert (await made.updates.final()).result.status == "cancelled"
    assert "stopping" not in {update.progress.message for update in made.updates.all}
