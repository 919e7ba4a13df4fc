"""The worker SDK: the threads that `asyncio.to_thread` takes on a worker's own loop: none can hold up its end."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

from holon.worker.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("holon.worker")


class LoopExecutor(ThreadPoolExecutor):
    """The default executor of a loop, with as many threads as Python's own, but none that Python waits for at its end.

    Arguments:
        last: how long a shutdown waits for what runs, in seconds; then it is left, and logged.
    """

    # Of what it inherits it uses nothing: it is one for the sake of `loop.set_default_executor`, which takes no other.
    def __init__(self, last: float) -> None:
        super().__init__()
        self._last = last
        self._most = min(32, (os.cpu_count() or 1) + 4)
        self._pool = Threads("holon-executor")
        # Of all below, and told when a thread has nothing more to do.
        self._done = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running: dict[Future[Any], Callable[[], Any]] = {}
        self._busy = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"LoopExecutor(running={len(self._running)}, waiting={len(self._waiting)})"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make the call in a thread, as soon as one is free.

        Raises:
            RuntimeError: it was shut down, or the system has no thread for this process; nothing is called.
        """
        future: Future[T] = Future()
        with self._done:
            if self._closed:
                raise RuntimeError("the worker has stopped and starts no more calls in threads")
            if self._busy < self._most:
                self._pool.submit(self._work)
                self._busy += 1
            self._waiting.append((future, functools.partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Begin nothing more that is submitted from now on.

        Arguments:
            wait: for what was submitted, but not longer than it may last; what has not begun then never does.
            cancel_futures: whether what has not begun never does, however long it would last.
        """
        with self._done:
            self._closed = True
            if cancel_futures:
                self._give_up()
            in_time = not wait or self._done.wait_for(lambda: not self._busy, self._last)
            if not in_time:
                self._give_up()
            left = [] if in_time else [_name(call) for call in self._running.values()]
        self._pool.close()
        for name in left:
            _log.error("%s still runs in a thread, which cannot be stopped; the worker does not wait for it", name)

    def _give_up(self) -> None:
        for future, _ in self._waiting:
            future.cancel()
        self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._done:
                if not self._waiting:
                    self._busy -= 1
                    self._done.notify_all()
                    return
                future, call = self._waiting.popleft()
                self._running[future] = call
            _settle(future, call)
            with self._done:
                del self._running[future]
            # Else it is kept until there is another.
            del future, call


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # whoever waits for it is told, as by any executor
        future.set_exception(error)
    else:
        future.set_result(result)


def _name(call: Any) -> str:
    """What a call is called, as whoever wrote it knows it."""
    while isinstance(call, functools.partial):
        # `asyncio.to_thread` has a context run the function.
        in_context = isinstance(getattr(call.func, "__self__", None), Context)
        call = call.args[0] if in_context else call.func
    return str(getattr(call, "__qualname__", repr(call)))
