"""The worker SDK: how a handler learns that its task was stopped, from a thread or from a loop."""

from __future__ import annotations

import asyncio
import threading


class Cancelled:
    """A handler's `cancelled`: set once the task is stopped, its time is over, or the worker gives it back.

    Any thread may use it. An async handler is cancelled besides, by `asyncio.CancelledError`.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[asyncio.Future[None]] = []
        self._reason = ""

    def __repr__(self) -> str:
        return f"Cancelled({self._reason or 'no'})"

    def __bool__(self) -> bool:
        return self._event.is_set()

    @property
    def reason(self) -> str:
        """Why: CANCELLED, DEADLINE, LEASE_LOST, DRAINING or another; empty while it is not set."""
        return self._reason

    def is_set(self) -> bool:
        """Whether the handler should stop."""
        return self._event.is_set()

    def sleep(self, seconds: float) -> bool:
        """Block this thread for so many seconds, or until the task is stopped; return whether it was.

        For sync handlers; an async one would block its loop.
        """
        return self._event.wait(seconds)

    async def wait(self) -> None:
        """Return once the task is stopped."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._event.is_set():
                return
            self._waiters.append(waiter)
        try:
            await waiter
        finally:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def set(self, reason: str) -> None:
        """Tell the handler; the first reason stays. The worker calls it."""
        with self._lock:
            if self._event.is_set():
                return
            self._reason = reason
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            try:
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
            except RuntimeError:
                # Its loop is closed, and with it the handler that waited.
                continue


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
