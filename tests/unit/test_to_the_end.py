"""What a thread does with a local file: a cancel comes after it, and none that was taken back by then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from holon.task_files.to_the_end import to_the_end

GUARD = 20.0


async def ended(calling: Coroutine[Any, Any, Any], done: threading.Event) -> asyncio.Task[Any]:
    """A caller whose thread was done once it was cancelled, when it has ended."""
    caller = asyncio.create_task(calling)
    async with asyncio.timeout(GUARD):
        while not caller.cancelling():  # noqa: ASYNC110  it is the next turn of the loop
            await asyncio.sleep(0)
        done.set()
        await asyncio.wait([caller])
    return caller


async def test_a_cancel_comes_where_the_caller_waits_next() -> None:
    done, heard = threading.Event(), list[bool]()

    async def calling() -> None:
        caller = asyncio.current_task()
        assert caller is not None
        asyncio.get_running_loop().call_soon(caller.cancel)
        heard.append(await to_the_end(done.wait, GUARD))
        await asyncio.sleep(0)
        heard.append(False)

    assert (await ended(calling(), done)).cancelled()
    assert heard == [True]


async def test_a_timeout_whose_block_has_ended_well_though_late_cancels_nobody_behind_it() -> None:
    done = threading.Event()

    async def calling() -> bool:
        async with asyncio.timeout(0):
            was_done = await to_the_end(done.wait, GUARD)
        await asyncio.sleep(0)
        return was_done

    assert (await ended(calling(), done)).result()


async def test_a_timeout_ends_what_waits_for_more_in_its_block() -> None:
    done = threading.Event()

    async def calling() -> str:
        try:
            async with asyncio.timeout(0):
                await to_the_end(done.wait, GUARD)
                await asyncio.sleep(0)
        except TimeoutError:
            return "too late"
        return "in time"

    assert (await ended(calling(), done)).result() == "too late"
