"""The worker SDK: threads for sync handlers, and calls from one thread into another's loop."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("holon.worker")


class Mailbox:
    """Calls for a loop that runs in another thread. Many posts cost it one wake-up.

    Arguments:
        loop: where the calls are made, in the order in which they were posted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False

    def post(self, call: Callable[..., object], *arguments: Any) -> None:
        """Have the loop make this call soon. Any thread may post; once the loop is closed, nothing happens."""
        self._calls.append((call, arguments))
        if self._woken:
            return
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._calls.clear()
            self._woken = False

    def _deliver(self) -> None:
        # Cleared first: a post that comes now wakes the loop again, and at worst for nothing.
        self._woken = False
        for _ in range(len(self._calls)):
            call, arguments = self._calls.popleft()
            self._loop.call_soon(call, *arguments)


class Threads:
    """Daemon threads, started when all others are busy, and reused.

    They do not keep the process alive: a handler that never returns cannot hold up its end. Who submits bounds their
    number by having no more calls open at a time.

    Attributes:
        closed: whether nothing is begun any more.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._open = 0
        self.closed = False

    def __repr__(self) -> str:
        return f"Threads({self._name}, started={self._started}, open={self._open})"

    def submit(self, call: Callable[[], object]) -> None:
        """Make the call in a thread at once; what it raises is logged.

        Raises:
            RuntimeError: the threads were closed, or the system has no more for this process; nothing is called.
        """
        with self._lock:
            if self.closed:
                raise RuntimeError(f"{self._name}: the worker has stopped and starts no more calls")
            if self._open < self._started:
                self._calls.put(call)
            else:
                # Before it is counted: there may be none to be had.
                name = f"{self._name}-{self._started + 1}"
                threading.Thread(target=self._work, args=([call],), name=name, daemon=True).start()
                self._started += 1
            self._open += 1

    def close(self) -> None:
        """Let every thread end after what it is doing."""
        with self._lock:
            self.closed = True
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self, begin: list[Callable[[], object]]) -> None:
        call: Callable[[], object] | None = begin.pop()
        while call is not None:
            try:
                call()
            except BaseException:  # noqa: BLE001  # the outermost frame of a thread, which goes on to be counted as one
                _log.exception("a call of %s raised", self._name)
            finally:
                with self._lock:
                    self._open -= 1
            # Else it is kept, with all that a task has, until there is another.
            del call
            call = self._calls.get()
