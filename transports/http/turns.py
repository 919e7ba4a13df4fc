"""The HTTP door: turns of the event loop that a request lets pass, for one resumption of its task."""

from __future__ import annotations

import asyncio


def two_turns() -> asyncio.Future[None]:
    """Done when what is to be done in this turn is done, and what that asked for at once; to be awaited at once.

    A sleep for each turn would resume every coroutine of the request twice.
    """
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.call_soon(_let_go, waiter)
    return waiter


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
