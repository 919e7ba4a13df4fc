"""Replies that a cancel does not lose: they reach their caller, who is cancelled where it waits next."""

from __future__ import annotations

import asyncio
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
        """The reply; a caller that was cancelled meanwhile is cancelled again where it waits next."""
        try:
            return await promise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
                task.cancel()
                # It may wait for nothing more.
                task.add_done_callback(self.cancelled.discard)
                self.cancelled.add(task)
            return promise.result()
