"""What a thread has begun with a local file is waited for, so that nothing of it is left behind by a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(call: Callable[..., T], *arguments: object) -> T:
    """Make a call in a thread, and return what it does, whatever cancels meanwhile; that is heard at the next await.

    Not if it was taken back by then: a timeout whose block has ended well, though late, cancels nobody. It is for what
    is over soon, and would otherwise go on with nobody to clear up after it.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  whoever awaits is in one
    before, put_off = task.cancelling(), False
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            put_off = True
    if put_off:
        # Once this turn of the task is over: it waits then, or has ended. To cancel it here would not do: until Python
        # 3.13 who takes a cancel back does not keep it from coming.
        task.get_loop().call_soon(_cancel, task, min(before, task.cancelling() - 1))
    return work.result()


def _cancel(task: asyncio.Task[Any], before: int) -> None:
    """Cancel a task that was to be cancelled more often than before, unless all of that was taken back."""
    if not task.done() and task.cancelling() > before:
        task.cancel()
        # It is no further one.
        task.uncancel()
