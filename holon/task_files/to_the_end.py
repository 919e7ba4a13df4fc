"""What a thread has begun with a local file is waited for, so that nothing of it is left behind by a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(call: Callable[..., T], *arguments: object) -> T:
    """Make a call in a thread, and return what it does, whatever cancels meanwhile; those are heard at the next await.

    For what is over soon, and would otherwise go on with nobody to clear up after it.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  whoever awaits is in one
    put_off = 0
    try:
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError:
                put_off += 1
                task.uncancel()
        return work.result()
    finally:
        for _ in range(put_off):
            task.cancel()
