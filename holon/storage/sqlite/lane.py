"""A thread of the store, and the lane by which calls get there and replies come back: many at a time, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, Generic, TypeVar

from msgspec import Struct

from holon.errors import StoreUnavailable
from holon.storage.promises import Promise, Promises
from holon.storage.waiting import MAX_WAITING, RETRY_AFTER_S, too_many_wait
from holon.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)

T = TypeVar("T")
Subject = TypeVar("Subject")


class Call(Struct, Generic[Subject], eq=False):
    """An operation that waits for its turn, and who waits for its reply."""

    operation: Callable[[Subject], Any]
    promise: Promise[Any]
    handed_over: float

    def __repr__(self) -> str:
        # Not of its reply.
        return f"Call({self.operation!r})"


class Lane(Generic[Subject]):
    """Carries calls from an event loop to one thread of its own.

    Arguments:
        name: the thread's name.
        body: what the thread does: prepare, call `ready`, then `take` calls and `answer` or `refuse` them, until `take`
            says None. When it raises, the lane is closed for good: what was not answered is refused, and `failure`
            raises the same.
        metrics: where calls are counted.
    """

    def __init__(self, name: str, body: Callable[[Lane[Subject]], None], metrics: StoreMetrics) -> None:
        self.name = name
        self._metrics = metrics
        self.error: BaseException | None = None
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Call[Subject] | None] = SimpleQueue()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._closing = False
        self._taken: list[Call[Subject]] = []
        self._promises = Promises()

    def __repr__(self) -> str:
        return f"Lane({self.name}, waiting={self._queue.qsize()}, ended={self._ended.is_set()})"

    @property
    def waiting(self) -> int:
        """How many calls the thread has not taken yet."""
        return self._queue.qsize()

    # On the event loop -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the thread, and wait until it is ready; raises what its body raised before. On cancel it has ended."""
        Thread(target=self._run, name=self.name, daemon=True).start()
        try:
            await self._started
        except asyncio.CancelledError:
            self.finish()
            await self._ended.wait()
            raise

    async def submit(self, operation: Callable[[Subject], T], *, room: int = MAX_WAITING) -> T:
        """Have the thread run an operation; answers with its reply.

        A cancel comes after the reply: this returns, and the caller, who has it now, is cancelled where it next waits.

        Arguments:
            room: how many calls may wait already.
        Raises:
            StoreUnavailable: the lane is closed, or too many calls wait.
        """
        if self._promises.cancelled:
            await self._promises.cancel_first()
        if self._closing:
            raise self._unavailable()
        waiting = self.waiting
        if waiting >= room:
            self._metrics.failures.add()
            raise too_many_wait(waiting)
        promise: Promise[T] = Promise(loop=self._loop)
        # At once: the thread begins when this loop waits, and has by then what else this turn brings.
        self._queue.put(Call(operation, promise, perf_counter()))
        return await self._promises.kept(promise)

    def finish(self) -> None:
        """Take no more calls; the thread ends when it has done those that it has."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)

    async def ended(self) -> None:
        """Wait for the thread's end; a cancel ends only the waiting."""
        await self._ended.wait()

    async def failure(self) -> None:
        """Wait for the thread's end; raises what ended it, unless that was `finish`."""
        await self._ended.wait()
        if self.error is not None:
            raise self.error

    def _unavailable(self) -> StoreUnavailable:
        if self.error is None:
            return StoreUnavailable("the store is closed")
        return StoreUnavailable(f"the store has stopped: {self.error}", retry_after=RETRY_AFTER_S)

    # In the thread ---------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """What has to be prepared is prepared."""
        self._tell(self._start_done)

    def take(self, limit: int, timeout: float | None = None) -> list[Call[Subject]] | None:
        """The calls that wait, at most `limit`; waits up to `timeout` seconds for the first, then answers with none.

        None: the lane is being closed, and nothing is left.
        """
        calls: list[Call[Subject]] = []
        self._taken = calls
        try:
            first = self._queue.get(timeout=timeout)
        except Empty:
            return calls
        if first is None:
            return None
        calls.append(first)
        # What came in until now, and not what comes in while it is taken: so this ends.
        for _ in range(min(self._queue.qsize(), limit - 1)):
            call = self._queue.get_nowait()
            if call is None:
                self._queue.put(None)
                break
            calls.append(call)
        return calls

    def answer(
        self,
        calls: Sequence[Call[Subject]],
        replies: Sequence[Any],
        first: Callable[[], None] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Give calls their replies, in one go; on the event loop `first` is called before that, and `then` after it."""
        self._tell(self._resolve, calls, replies, first, then)

    def refuse(self, calls: Sequence[Call[Subject]], errors: Sequence[BaseException]) -> None:
        """Give calls an error each."""
        self._tell(self._reject, calls, errors)

    def _tell(self, *call: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(*call)
        except RuntimeError:
            # The loop is closed: nobody is left who waits for anything.
            log.debug("%s: the event loop is closed", self.name)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._body(self)
        except BaseException as raised:  # noqa: BLE001 -- the outermost frame of the thread: `failure` raises it
            error = raised
        self._tell(self._end, error)

    # On the event loop, called by the thread -------------------------------------------------------------------

    def _start_done(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        self.error = error
        self._closing = True
        self._ended.set()
        if not self._started.done():
            self._started.set_exception(error or self._unavailable())
        elif error is not None:
            log.critical("%s has stopped: %s", self.name, error, exc_info=error)
        left: list[Call[Subject] | None] = [*self._taken]
        while self._queue.qsize():
            left.append(self._queue.get_nowait())
        for call in left:
            if call is not None and not call.promise.done():
                call.promise.set_exception(self._unavailable())

    def _resolve(
        self,
        calls: Sequence[Call[Subject]],
        replies: Sequence[Any],
        first: Callable[[], None] | None,
        then: Callable[[], None] | None,
    ) -> None:
        try:
            if first is not None:
                first()
        finally:
            for call, reply in zip(calls, replies, strict=True):
                if not call.promise.done():
                    call.promise.set_result(reply)
            if then is not None:
                then()
        now = perf_counter()
        for call in calls:
            self._metrics.calls.observe(now - call.handed_over)

    def _reject(self, calls: Sequence[Call[Subject]], errors: Sequence[BaseException]) -> None:
        for call, error in zip(calls, errors, strict=True):
            if not call.promise.done():
                call.promise.set_exception(error)
        self._metrics.failures.add(by=len(calls))
