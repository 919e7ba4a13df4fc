"""The one connection for calls: those of one tick, and those that came while the last flight was out, go together.

They are carried out in their order. When the connection is lost, the calls that were out are sent again on the next
one: every script answers a repeat as the first time, or what it handed over is given back: jobs at once, tasks by their
own deadline. Each connection has a number, which scripts that write are told: what an older one still carries is
refused.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from holon.errors import StoreUnavailable
from holon.storage.promises import Promise, Promises
from holon.storage.redis.flight import Call, marks_of, there_and_back
from holon.storage.redis.scripts import is_unknown
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE, RETRY_AFTER_S, too_many_wait
from holon.stores.redis_servers import Connection, Strictness, explained
from holon.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)

# So many calls at most are sent at once, of so many bytes: over a slow link they are to arrive before the connection is
# taken for lost, or they would be sent again and again.
MAX_FLIGHT = 256
MAX_FLIGHT_BYTES = 4_000_000
# How long a call may wait for a server that is away (seconds): short outages are ridden out.
RIDE_OUT_S = 5.0
RIDE_OUT_TO_CREATE_S = 2.0
# The same once the node is about to end: well within the farewell of its doors.
LAST_WAIT_S = 0.3
FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 1.0
# Of so many calls without a reply it is said that nobody heard what they claimed; of older ones that expires.
_MOST_UNHEARD = 1_000
# The server says these of itself, and may have got over it, or another have taken its place, by the next time; or else
# the next connection finds out what has become of the store.
_PASSING = ("NOREPLICAS", "BUSY", "OUTDATED", "MISCONF", "EMPTYSTORE")
# The same as the client library knows them: another is the master now, or the slot of a partition moves to another. It
# is not followed there before all of it has moved.
_PASSING_ERRORS = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, AskError, MovedError)


def passes(error: Exception) -> bool:
    """Whether a server that says so may have got over it, or another have taken its place, by the next time."""
    return isinstance(error, _PASSING_ERRORS) or str(error).startswith(_PASSING)


def _why(error: Exception) -> str:
    return str(error) or "no answer came in time"


class Lane:
    """Carries calls to the server.

    Arguments:
        connect: makes a connection that is ready for calls: the server has the library, the store is there. Returns
            the connection and its number. Raises RedisError or OSError if the server is away, StoreUnavailable if
            the store is lost for good.
        strictness: what is waited for after each flight; replies are withheld until then.
        metrics: where calls are counted.
        unheard: told, whenever there is a connection again, by what claims begin that were made on an older one, and
            of which nobody here has heard; until it says that these were `given_back`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[tuple[Connection, bytes]]],
        strictness: Strictness,
        metrics: StoreMetrics,
        unheard: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._tell_unheard = unheard
        self._unheard: deque[str] = deque(maxlen=_MOST_UNHEARD)
        self._strictness = strictness
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Call] = deque()
        self._some = asyncio.Event()
        self._finished = False
        self._promises = Promises()
        self._connection: Connection | None = None
        self._number = b""
        self._wait = FIRST_WAIT_S
        # Since when the server is away, and what was logged of it.
        self._away_since = 0.0
        self._told: set[str] = set()
        self._flying = False
        self._flight: list[Call] = []
        # Until when the flight that is out may take; unlimited, it is as long as the client library waits.
        self._limit: asyncio.Timeout | None = None
        self._hurried = asyncio.Event()
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"Lane(waiting={len(self._queue)}, {'away' if self._connection is None else 'connected'})"

    @property
    def away(self) -> bool:
        """Whether the last flight did not come back."""
        return self._wait > FIRST_WAIT_S

    @property
    def waiting(self) -> int:
        """How many calls were not sent yet."""
        return len(self._queue)

    async def submit(self, command: tuple[Any, ...], operation: str = "", *, new_work: bool = False) -> Any:
        """Send a command; answers with its reply. A cancel comes after the reply.

        Arguments:
            operation: the operation that it calls, if any; the command is then what comes after its name.
            new_work: whether it only adds work, and is the first to be refused.
        Raises:
            StoreUnavailable: the lane is closed, too many calls wait, or the server was away for too long.
        """
        if self._promises.cancelled:
            await self._promises.cancel_first()
        if self._finished:
            raise StoreUnavailable("the store is closed")
        if len(self._queue) >= (MAX_WAITING_TO_CREATE if new_work else MAX_WAITING):
            self._metrics.failures.add()
            raise too_many_wait(len(self._queue))
        return await self._promises.kept(self._put(command, operation, new_work))

    def send(
        self, command: tuple[Any, ...], operation: str = "", replied: Callable[[Any], None] = lambda _: None
    ) -> None:
        """Send a command for whose reply nobody waits; `replied` is called with it, if there is one."""

        def done(promise: asyncio.Future[Any]) -> None:
            if promise.exception() is None:
                replied(promise.result())

        if not self._finished and len(self._queue) < MAX_WAITING:
            self._put(command, operation, False).add_done_callback(done)

    def given_back(self, marks: Collection[str]) -> None:
        """Nothing is claimed any more of what nobody here has heard."""
        self._unheard = deque((mark for mark in self._unheard if mark not in marks), maxlen=_MOST_UNHEARD)

    def after_replies(self, then: Callable[[], None]) -> None:
        """Call this when every call that was made until now has its reply: at once, if none is out.

        What came by another way may be newer than a reply that is still to come, and must not be overwritten by it.
        """
        if self._finished or not (self._queue or self._flying):
            then()
            return

        def replied(promise: asyncio.Future[Any]) -> None:
            promise.exception()
            then()

        self._put(("PING",), "", False).add_done_callback(replied)

    def _put(self, command: tuple[Any, ...], operation: str, new_work: bool) -> Promise[Any]:
        promise: Promise[Any] = Promise(loop=self._loop)
        patience = RIDE_OUT_TO_CREATE_S if new_work else RIDE_OUT_S
        if self._hurried.is_set():
            patience = LAST_WAIT_S
        self._queue.append(Call(command, operation, promise, self._loop.time() + patience))
        self._some.set()
        return promise

    def hurry(self) -> None:
        """Ride out no outage any more: what waits, and what comes, is refused unless it is carried out soon."""
        self._hurried.set()
        soon = self._loop.time() + LAST_WAIT_S
        for call in (*self._flight, *self._queue):
            call.deadline = min(call.deadline, soon)
        if self._limit is not None:
            self._limit.reschedule(soon)

    def finish(self) -> None:
        """Take no more calls; `run` ends when those that it has are done."""
        self._finished = True
        self._some.set()

    async def run(self) -> None:
        """Carry calls until `finish`.

        Raises:
            StoreUnavailable: what is at the other end is not, or no longer, this store; only a restart mends that.
        """
        try:
            while self._queue or not self._finished:
                await self._some.wait()
                self._some.clear()
                # What else this tick has to say goes along.
                await asyncio.sleep(0)
                self._flying = True
                while self._queue:
                    await self._fly()
                self._flying = False
        except StoreUnavailable as error:
            self._error = error
            raise
        finally:
            self._finished = True
            await self._disconnect()
            while self._queue:
                self._refuse(self._queue.popleft(), self._error)

    async def _fly(self) -> None:
        flight = self._flight = self._boarded()
        try:
            replies = await self._there_and_back(flight)
        except (RedisError, OSError, EOFError) as error:
            await self._lost(flight, error)
            return
        except BaseException:
            self._queue.extendleft(reversed(flight))
            raise
        now = perf_counter()
        self._metrics.groups.observe(len(flight))
        again: list[Call] = []
        passing: Exception | None = None
        for call, reply in replies:
            if not isinstance(reply, Exception):
                self._metrics.calls.observe(now - call.handed_over)
                call.promise.set_result(reply)
            elif passes(reply) or is_unknown(reply):
                # A library that the server lost again is loaded with the next connection.
                passing = reply
                again.append(call)
            else:
                self._refuse(call, reply)
        if passing is not None:
            await self._lost(again, passing)
        elif self.away:
            log.info("the store is there again, after %.1f s", self._loop.time() - self._away_since)
            self._wait = FIRST_WAIT_S

    def _boarded(self) -> list[Call]:
        """The calls that go next: one at least."""
        flight = [self._queue.popleft()]
        room = MAX_FLIGHT_BYTES - flight[0].size
        while self._queue and len(flight) < MAX_FLIGHT and self._queue[0].size <= room:
            flight.append(self._queue.popleft())
            room -= flight[-1].size
        return flight

    async def _there_and_back(self, flight: Sequence[Call]) -> list[tuple[Call, Any]]:
        limit = max(call.deadline for call in flight) if self._hurried.is_set() else None
        async with asyncio.timeout_at(limit) as self._limit:
            try:
                if self._connection is None:
                    self._connection, self._number = await self._connect()
                    if self._unheard:
                        self._tell_unheard(tuple(self._unheard))
                try:
                    return await there_and_back(self._connection, self._number, self._strictness, flight)
                except BaseException:
                    # They may have been carried out, also where a hurry did not wait for it.
                    self._unheard += marks_of(flight, self._number)
                    raise
            finally:
                self._limit = None

    async def _lost(self, flight: Sequence[Call], error: Exception) -> None:
        """The server is away: keep what may still wait, and give it a moment."""
        await self._disconnect()
        now = self._loop.time()
        waiting = [*flight, *self._queue]
        self._queue.clear()
        for call in waiting:
            if call.deadline > now:
                self._queue.append(call)
            else:
                self._refuse(call, error)
        if not self.away:
            self._away_since = now
            self._told.clear()
        # What becomes of it meanwhile is told too: it was killed, nobody listens, it reads what it has kept.
        if (why := _why(error)) not in self._told:
            self._told.add(why)
            log.warning("the store is away, %d calls wait: %s", len(self._queue), why)
        pause = self._wait * random.uniform(0.5, 1)  # noqa: S311  no secret
        self._wait = min(2 * self._wait, LONGEST_WAIT_S)
        if self._queue:
            soonest = min(call.deadline for call in self._queue) - now
            await self._pause(min(pause, soonest))

    async def _pause(self, seconds: float) -> None:
        """Wait; a hurry that comes meanwhile ends it."""
        if self._hurried.is_set():
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    def _refuse(self, call: Call, error: Exception | None) -> None:
        self._metrics.failures.add()
        if call.promise.done():
            return
        if isinstance(error, OutOfMemoryError):
            what = f"the store has no room: {error}"
        elif isinstance(error, ResponseError) and not passes(error):
            why = explained(error)
            log.error("the store refused %s: %s", call.operation or call.command[0], why)
            what = f"the store refused the call: {why}"
        else:
            what = "the store is closed" if error is None else f"the store cannot be reached: {_why(error)}"
        call.promise.set_exception(StoreUnavailable(what, retry_after=RETRY_AFTER_S))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
