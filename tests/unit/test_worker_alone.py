"""A worker that is run by itself: its end, whatever its handlers do."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from holon.worker import Worker
from holon.worker.alone import run_alone


async def deaf(ended: list[str]) -> None:
    try:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    finally:
        ended.append("deaf")


async def tidy(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append("tidy")


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_does_not_let_itself_be_cancelled_is_left_and_what_does_is_waited_for(
    interrupted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        tasks.extend(loop.create_task(one(ended), name=one.__name__) for one in (deaf, tidy))
        await asyncio.sleep(0)
        if interrupted:
            loop.call_soon(interrupt)
            await asyncio.Event().wait()

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            run_alone(serve, last=0.01)
    else:
        run_alone(serve, last=0.01)
    assert ended == ["tidy"]
    assert [one.message for one in caplog.records] == ["deaf does not let itself be cancelled; it is left where it is"]


def test_what_serving_raises_is_raised() -> None:
    async def serve() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run_alone(serve)


async def test_a_worker_that_is_run_where_a_loop_runs_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"await serve\(\), or enter the worker"):
        Worker().run()
