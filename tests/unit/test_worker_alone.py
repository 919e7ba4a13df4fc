"""A worker that is run by itself: its end, whatever its handlers do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from holon.worker import Worker
from holon.worker.alone import run_alone

GUARD = 10.0


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
    assert [one.message for one in caplog.records] == [
        "deaf ignores its cancel; the program ends without waiting for it"
    ]


def test_what_is_begun_at_the_end_and_does_not_let_itself_be_cancelled_is_left_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heirs: list[asyncio.Task[None]] = []

    async def leaves_one() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heirs.append(asyncio.create_task(deaf([]), name="heir"))

    async def serve() -> None:
        heirs.append(asyncio.create_task(leaves_one()))
        await asyncio.sleep(0)

    # In a thread of its own: it would never return.
    thread = threading.Thread(target=run_alone, args=(serve, 0.01), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert [one.message for one in caplog.records] == [
        "heir ignores its cancel; the program ends without waiting for it"
    ]


def test_what_serving_raises_is_raised() -> None:
    async def serve() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run_alone(serve)


async def test_a_worker_that_is_run_where_a_loop_runs_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"use `await serve\(\)` or"):
        Worker().run()


def test_a_thread_that_runs_on_does_not_hold_up_the_end_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    go_on, called = threading.Event(), list[str]()

    def deaf_call(begun: Callable[[], object]) -> None:
        begun()
        go_on.wait(GUARD)

    async def serve() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def begin() -> None:
            loop.call_soon_threadsafe(begun.set)

        # More than there are threads.
        calls = [asyncio.create_task(asyncio.to_thread(deaf_call, begin)) for _ in range(100)]
        calls.append(asyncio.create_task(asyncio.to_thread(called.append, "begun")))
        await begun.wait()

    try:
        run_alone(serve, last=0.01)
        left = {one.message for one in caplog.records}
    finally:
        go_on.set()
    assert left == {
        f"{deaf_call.__qualname__} still runs in a thread, which cannot be stopped; the worker does not wait for it"
    }
    assert called == []
    assert all(one.daemon for one in threading.enumerate() if one.name.startswith("holon-executor"))


def test_a_thread_that_ends_soon_is_waited_for() -> None:
    ended: list[str] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        def call() -> None:
            loop.call_soon_threadsafe(begun.set)
            over.wait(GUARD)
            ended.append("call")

        over = threading.Event()
        task = asyncio.create_task(asyncio.to_thread(call))
        await begun.wait()
        task.cancel()
        loop.call_soon(over.set)

    run_alone(serve, last=GUARD)
    assert ended == ["call"]
