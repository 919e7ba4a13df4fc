"""Requests of which only a part has come: each can take memory up to its limit, so a sender has only so many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

from holon.errors import ResourceExhausted

# How many requests of one sender may come in at once, and how many more may wait for that.
MOST = 32
MOST_WAITING = 2_000
# How many seconds a request keeps its place while another one waits.
PATIENCE_S = 2.0
_RETRY_S = 1.0


class _Sender:
    """The requests of one sender.

    Attributes:
        requests: how many there are.
        waiting: how many of them have no place yet.
        patient: those that have a place for as long as they may, the oldest first, and since when.
        hurried: those whose place is needed.
    """

    __slots__ = ("_patience", "hurried", "patient", "places", "requests", "waiting")

    def __init__(self, patience: float) -> None:
        self.places = asyncio.Semaphore(MOST)
        self._patience = patience
        self.requests = self.waiting = 0
        self.patient: dict[asyncio.Timeout, float] = {}
        self.hurried: set[asyncio.Timeout] = set()

    def hurry(self) -> None:
        """For each request that waits, end the oldest one once it has had its place for long enough."""
        while self.patient and len(self.hurried) < self.waiting:
            scope, since = next(iter(self.patient.items()))
            del self.patient[scope]
            self.hurried.add(scope)
            ends = scope.when()
            # One whose time has just run out is about to end.
            if not scope.expired() and (ends is None or ends > since + self._patience):
                scope.reschedule(since + self._patience)


class Arrivals:
    """Bounds how many requests of each sender come in at the same time.

    A sender with that many waits with the next one until a request is there. If none is after some time, the oldest
    one ends. Strangers are one sender, and the oldest of their requests ends at once.
    """

    def __init__(self) -> None:
        self._senders: dict[Hashable | None, _Sender] = {}

    def __repr__(self) -> str:
        return f"Arrivals(senders={len(self._senders)})"

    @asynccontextmanager
    async def place(self, sender: Hashable | None, seconds: float | None = None) -> AsyncGenerator[None, None]:
        """A place for one request, while this block reads it.

        Arguments:
            sender: whose it is; None: a stranger's.
            seconds: how long that may take; None: no limit while no other request waits.
        Raises:
            ResourceExhausted: (REQUESTS_FULL) another request of the sender needed the place, or too many wait.
            TimeoutError: it took too long.
        """
        known = self._senders.get(sender)
        if known is None:
            known = self._senders[sender] = _Sender(0.0 if sender is None else PATIENCE_S)
        known.requests += 1
        try:
            await _wait(known)
            try:
                async with _reading(known, seconds):
                    yield
            finally:
                known.places.release()
        finally:
            known.requests -= 1
            if not known.requests:
                del self._senders[sender]


async def _wait(known: _Sender) -> None:
    if known.waiting >= MOST_WAITING:
        raise _full()
    known.waiting += 1
    try:
        if known.places.locked():
            known.hurry()
        await known.places.acquire()
    finally:
        known.waiting -= 1


@asynccontextmanager
async def _reading(known: _Sender, seconds: float | None) -> AsyncGenerator[None, None]:
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            known.patient[scope] = asyncio.get_running_loop().time()
            known.hurry()
            yield
    except TimeoutError as error:
        if scope in known.hurried:
            raise _full() from error
        raise
    finally:
        known.patient.pop(scope, None)
        known.hurried.discard(scope)


def _full() -> ResourceExhausted:
    return ResourceExhausted(
        f"at most {MOST} requests of one sender may arrive at the same time, and another request needed the place of "
        "this slow one; send fewer at once, and repeat this one",
        code="REQUESTS_FULL",
        retry_after=_RETRY_S,
    )
