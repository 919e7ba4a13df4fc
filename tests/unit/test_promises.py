"""Promises: who is cancelled while it waits for a reply has that first, and no cancel that was taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from holon.storage.promises import Promise, Promises

Call = Callable[[], Awaitable[str]]


class Store:
    """Answers one call, when it is told to."""

    def __init__(self) -> None:
        self.promises = Promises()
        self.promise: Promise[str] = Promise(loop=asyncio.get_running_loop())

    async def call(self) -> str:
        return await self.promises.kept(self.promise)


async def ended(calling: Callable[[Call], Coroutine[Any, Any, Any]], *, cancels: int) -> asyncio.Task[Any]:
    """A caller that has its reply once it was cancelled so many times, when it has ended."""
    store = Store()
    caller = asyncio.create_task(calling(store.call))
    async with asyncio.timeout(10):
        while caller.cancelling() < cancels:  # noqa: ASYNC110  it is the next turn of the loop
            await asyncio.sleep(0)
        store.promise.set_result("the reply")
        await asyncio.wait([caller])
    assert not store.promises.cancelled
    return caller


async def cancel_myself_soon() -> None:
    caller = asyncio.current_task()
    assert caller is not None
    asyncio.get_running_loop().call_soon(caller.cancel)


async def test_a_cancel_comes_where_the_caller_waits_next() -> None:
    heard: list[str] = []

    async def calling(call: Call) -> None:
        await cancel_myself_soon()
        heard.append(await call())
        await asyncio.sleep(0)
        heard.append("more")

    assert (await ended(calling, cancels=1)).cancelled()
    assert heard == ["the reply"]


async def test_a_caller_that_waits_for_nothing_more_is_not_cancelled() -> None:
    async def calling(call: Call) -> str:
        await cancel_myself_soon()
        return await call()

    assert (await ended(calling, cancels=1)).result() == "the reply"


async def test_a_timeout_whose_block_has_ended_well_though_late_cancels_nobody_behind_it() -> None:
    async def calling(call: Call) -> str:
        async with asyncio.timeout(0):
            reply = await call()
        await asyncio.sleep(0)
        return reply

    assert (await ended(calling, cancels=1)).result() == "the reply"


async def test_a_timeout_ends_what_waits_for_more_in_its_block() -> None:
    async def calling(call: Call) -> str:
        try:
            async with asyncio.timeout(0):
                await call()
                await asyncio.sleep(0)
        except TimeoutError:
            await asyncio.sleep(0)
            return "went on"
        return "was not ended"

    assert (await ended(calling, cancels=1)).result() == "went on"


async def test_a_cancel_beside_a_timeout_that_was_taken_back_still_comes() -> None:
    async def calling(call: Call) -> None:
        await cancel_myself_soon()
        async with asyncio.timeout(0):
            await call()
        await asyncio.sleep(0)

    assert (await ended(calling, cancels=2)).cancelled()


async def test_a_timeout_in_what_cleans_up_after_a_cancel_cancels_nobody_behind_it() -> None:
    async def calling(call: Call) -> str:
        await cancel_myself_soon()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            async with asyncio.timeout(0):
                await call()
            await asyncio.sleep(0)
        return "cleaned up"

    assert (await ended(calling, cancels=2)).result() == "cleaned up"


async def test_the_failure_of_another_task_of_its_group_cancels_nobody_behind_the_group() -> None:
    async def failing() -> None:
        raise ValueError("it broke")

    async def calling(call: Call) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing())
                await call()
        except* ValueError:
            pass
        await asyncio.sleep(0)
        return "went on"

    assert (await ended(calling, cancels=1)).result() == "went on"


async def test_one_call_after_the_other_that_runs_whole_does_not_put_a_cancel_off() -> None:
    promises, ended = Promises(), 0

    async def act() -> None:
        nonlocal ended
        await asyncio.sleep(0)
        ended += 1

    async def calling() -> None:
        while True:
            await promises.whole(act)

    caller = asyncio.create_task(calling())
    while not ended:  # noqa: ASYNC110  it is the next turn of the loop
        await asyncio.sleep(0)
    caller.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([caller])
    assert caller.cancelled()
    assert not promises.cancelled
