"""Replies that a cancel does not lose: they reach their caller, who is cancelled where it waits next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Promise(asyncio.Future[T]):
    """A reply to come. Whoever waits for it waits until it is there: a cancel of theirs comes after it."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002  as any future takes it
        return False


class Promises:
    """The cancels that are still to come. For one event loop.

    Attributes:
        cancelled: whose they are; while it is empty, as nearly always, nobody has to be cancelled first.
    """

    def __init__(self) -> None:
        self.cancelled: set[asyncio.Task[Any]] = set()

    async def cancel_first(self) -> None:
        """If the caller is still to be cancelled, this is where: else one call after another could put it off."""
        task = asyncio.current_task()
        if task is not None and task in self.cancelled:
            self.cancelled.discard(task)
            await asyncio.sleep(0)

    async def kept(self, promise: Promise[T]) -> T:
        """The reply; a caller that was cancelled meanwhile is cancelled where it waits next.

        Not if that was taken back by then: a timeout whose block has ended well, though late, cancels nobody.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        try:
            return await promise
        except asyncio.CancelledError:
            if task is not None:
                self.cancelled.add(task)
                # Once this turn of the caller is over: it waits then, or has ended. To cancel it here would not do:
                # until Python 3.13 who takes a cancel back does not keep it from coming.
                task.get_loop().call_soon(self._cancel, task, min(before, task.cancelling() - 1))
            return promise.result()

    async def whole(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something to its end, whatever becomes of the caller; the reply is given as `kept` gives it."""
        if self.cancelled:
            await self.cancel_first()
        promise: Promise[T] = Promise()
        running = asyncio.create_task(act())
        running.add_done_callback(lambda _: _settle(promise, running))
        return await self.kept(promise)

    def _cancel(self, task: asyncio.Task[Any], before: int) -> None:
        """Cancel a task that was to be cancelled more often than before, unless all of that was taken back."""
        self.cancelled.discard(task)
        if not task.done() and task.cancelling() > before:
            task.cancel()
            # It is no further one.
            task.uncancel()


def _settle(promise: Promise[T], done: asyncio.Task[T]) -> None:
    """Give a promise what a task came to."""
    if promise.done():
        return
    if done.cancelled():
        promise.set_exception(asyncio.CancelledError())
    elif (error := done.exception()) is not None:
        promise.set_exception(error)
    else:
        promise.set_result(done.result())
