"""A task of the parent's: nothing is done to its job any more once that is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from holon.errors import NotFound
from holon.uplink.books import Delegation
from holon.uplink.delegated import Delegated


class Gone:
    """A job that is gone; it is its own jobs and watching."""

    async def follow(self, *_: object, **__: object) -> AsyncIterator[Any]:
        for error in (NotFound("gone"),):
            raise error
        yield


async def what_is_due() -> None:
    """Return once the timers have rung that are due now: those that are set later ring later."""
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(0, rung.set)
    await rung.wait()


async def test_a_job_that_is_over_has_no_time_any_more() -> None:
    gone: Any = Gone()
    calls: list[str] = []
    entry = Delegation("parent", "t1", "0-job", 1, 1, "lease")
    running = Delegated(gone, gone, entry, lambda *_: None, lambda: None, lambda _: None)
    running.limit(3_600, lambda: calls.append("first"))
    running.limit(0, lambda: calls.append("newest"))
    await what_is_due()
    assert calls == ["newest"]
    running.soon(0, lambda: calls.append("withdrawn"))
    assert await running.follow() is None
    # While its end is told, its lease may go on, or be taken back.
    running.limit(0, lambda: calls.append("late"))
    running.soon(0, lambda: calls.append("late"))
    await what_is_due()
    assert calls == ["newest"]
