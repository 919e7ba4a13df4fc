"""Turns of the event loop that let offers go out before who asked for them goes on."""

from __future__ import annotations

import asyncio


def two_turns() -> asyncio.Future[None]:
    """Done when what is to be done in this turn is done, and what that asked for at once; to be awaited at once.

    The offers of a job that was just created are on their way then: a worker's time is the job's, and what its creator
    does next is not. A sleep for each turn would resume every coroutine that waits for this twice.
    """
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.call_soon(_let_go, waiter)
    return waiter


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
