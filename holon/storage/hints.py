"""Wake-ups from the store: folded together while nobody looks, so that they never pile up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from holon.domain.value import replace
from holon.ports import Hint

_NOTHING = Hint()


class Hints:
    """Where a store leaves its hints, and where listeners pick them up. For one event loop.

    Attributes:
        watched: the jobs whose every change is to be hinted at.
        kinds: the kinds of documents that somebody has asked for, where hints from other nodes can be lost.
    """

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.kinds: set[str] = set()
        self._listeners: set[_Listener] = set()

    def give(self, hint: Hint) -> None:
        """Leave a hint for every listener; of jobs, those that are watched now."""
        jobs = hint.jobs & self.watched
        if jobs != hint.jobs:
            hint = replace(hint, jobs=jobs)
        if hint != _NOTHING:
            for listener in self._listeners:
                listener.fold(hint)

    def listen(self) -> AsyncIterator[Hint]:
        """Hints from now on; one that was not picked up yet takes up the next."""
        listener = _Listener()
        self._listeners.add(listener)
        return self._until_closed(listener)

    async def _until_closed(self, listener: _Listener) -> AsyncIterator[Hint]:
        try:
            while True:
                if listener.hint is None:
                    await listener.some()
                hint, listener.hint = listener.hint, None
                if hint is not None:
                    yield hint
        finally:
            self._listeners.discard(listener)


class _Listener:
    def __init__(self) -> None:
        self.hint: Hint | None = None
        self._waiter: asyncio.Future[None] | None = None

    def fold(self, hint: Hint) -> None:
        old = self.hint
        self.hint = (
            hint
            if old is None
            else Hint(
                ready=old.ready or hint.ready,
                stops=old.stops or hint.stops,
                due=min((due for due in (old.due, hint.due) if due is not None), default=None),
                keys=old.keys | hint.keys,
                spawns=old.spawns | hint.spawns,
                jobs=old.jobs | hint.jobs,
                notices=old.notices or hint.notices,
                documents=old.documents | hint.documents,
            )
        )
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def some(self) -> asyncio.Future[None]:
        """Done when there is a hint; to be awaited at once."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        return waiter
