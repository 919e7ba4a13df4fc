"""The simulator: an event loop with virtual time, on which whole processes can stand still and die.

Time passes only where nothing else is to be done. A callback belongs to the process in whose context it was made.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_process: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """A process of the simulation: everything that is started in its context, and what that starts.

    Attributes:
        alive: whether it runs at all; nothing of one that was killed runs again, not even its `finally`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.deferred: deque[asyncio.Handle] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"Process({self.name}, alive={self.alive}, frozen={self.frozen})"

    @property
    def context(self) -> Context:
        """A new context of this process."""
        context = copy_context()
        context.run(_process.set, self)
        return context

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as a part of it."""
        return asyncio.get_running_loop().create_task(coroutine, context=self.context)

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self.alive = False
        for task in self.tasks:
            # It is never to end: that is no fault.
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def freeze(self) -> None:
        """Stop it as SIGSTOP does."""
        self.frozen = True

    def go_on(self) -> None:
        """Let it run on: what came meanwhile comes now."""
        self.frozen = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.run_soon(self.deferred)
        self.deferred = deque()


class Stuck(Exception):
    """Nothing is to be done any more, and somebody still waits."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual. No input or output, no threads."""

    def __init__(self) -> None:
        self._now = 0.0
        self._over = False
        super().__init__()
        self.set_task_factory(_of_its_process)

    def time(self) -> float:
        return self._now

    def end(self) -> None:
        """Nothing runs any more. What is left of its tasks may be thrown away, and changes nothing."""
        self._over = True
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.close()

    def _check_closed(self) -> None:
        if not self._over:
            super()._check_closed()  # type: ignore[misc]

    def run_soon(self, handles: deque[asyncio.Handle]) -> None:
        """Run callbacks that were put off."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """There are no threads: it runs at once."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001  as an executor does
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Stuck
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            process = handle._context.get(_process)  # type: ignore[attr-defined]
            if handle.cancelled() or (process is not None and not process.alive):
                continue
            if process is not None and process.frozen:
                process.deferred.append(handle)
            else:
                handle._run()


def _of_its_process(loop: asyncio.AbstractEventLoop, coroutine: Any, **given: Any) -> asyncio.Task[Any]:
    """A task, known to the process in whose context it runs."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **given)
    context: Context | None = given.get("context")
    process = (context.get(_process) if context is not None else None) or _process.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task
