"""Loops that act on the store's hints and on time. A hint is never the truth: each of them asks the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from holon.domain.attempts import Loss
from holon.engine.dispatcher import Dispatcher
from holon.engine.following import Following
from holon.engine.rekeying import Rekeying
from holon.engine.touches import Touches
from holon.engine.watching import Watching
from holon.errors import StoreUnavailable
from holon.ports import Fired, Hint, Storage
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

FIRE_LIMIT = 500


class Wakeups:
    """Fires what is due, spawns what is wanted, asks for stops, and wakes who watches.

    Arguments:
        told: called when there is history to be moved.
        catch_up: called before anything that is due is done.

    Attributes:
        documents: called with the kinds of documents that changed.
        said: called with what other nodes passed on.
        lost: called with attempts that were lost or timed out.
    """

    def __init__(
        self,
        store: Storage,
        dispatcher: Dispatcher,
        touches: Touches,
        rekeying: Rekeying,
        watching: Watching,
        following: Following,
        told: Callable[[], None],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._touches = touches
        self._rekeying = rekeying
        self._watching = watching
        self._following = following
        self._told = told
        self._away = Seldom(log)
        self._catch_up = catch_up
        self.documents: list[Callable[[frozenset[str]], None]] = []
        self.said: Callable[[Sequence[tuple[str, bytes]]], None] = lambda _: None
        self.lost: Callable[[Sequence[Loss]], None] = lambda _: None
        self._timer = asyncio.Event()
        self._due: int | None = 0
        self._spawns: set[tuple[str, int]] = set()
        self._spawn = asyncio.Event()
        self._keys: set[str] = set()
        self._waiting = asyncio.Event()

    async def run(self) -> None:
        """Hear hints, and run all loops, until cancelled."""
        hear_no_more = self._store.hear(self._hear)
        try:
            await self._run()
        finally:
            hear_no_more()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._place(), name="placer")
            loops.create_task(self._fire(), name="timers")
            loops.create_task(self._spawn_chunks(), name="spawner")

    def look_again(self) -> None:
        """The time has jumped: do what is due now."""
        self._due = 0
        self._timer.set()

    def _hear(self, hint: Hint) -> None:
        # First, for somebody waits: what is at hand is told here and now. A parent's time is the job's, and what goes
        # up is on its way before whoever waits for a reply of the same turn goes on.
        self._watching.changed(hint.jobs)
        self._following.changed(hint.jobs)
        if hint.said:
            self.said(hint.said)
        if hint.notices:
            self._told()
        if hint.documents:
            for follow in self.documents:
                follow(hint.documents)
        if hint.stops:
            self._touches.soon()
        if hint.due is not None and (self._due is None or hint.due < self._due):
            self._due = hint.due
            self._timer.set()
        if hint.spawns:
            self._want(hint.spawns)
        if hint.keys:
            self._keys |= hint.keys
            self._waiting.set()

    def _want(self, spawns: Iterable[tuple[str, int]]) -> None:
        self._spawns.update(spawns)
        if self._spawns:
            self._spawn.set()

    async def _place(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            keys, self._keys = frozenset(self._keys), set()
            # Whoever had a reply before these were told has it now, and has forgotten what does not wait any more.
            await asyncio.sleep(0)
            try:
                self._rekeying.waiting(await self._dispatcher.wait_for(keys))
            except StoreUnavailable as error:
                # Of tasks that wait it is hinted once.
                self._keys |= keys
                self._waiting.set()
                await self._wait_out("look up waiting jobs", error)

    async def _fire(self) -> None:
        while True:
            await self._until_due()
            self._due = None
            await self._catch_up()
            fired: Fired | None = None
            try:
                fired = await self._store.fire(FIRE_LIMIT)
            except StoreUnavailable as error:
                await self._wait_out("fire timers", error)
                self._due = 0
                continue
            # A hint that came meanwhile may tell of an earlier timer than this reply does.
            self._due = min((due for due in (fired.next_due, self._due) if due is not None), default=None)
            self._want(fired.spawns)
            if fired.losses:
                self.lost(fired.losses)

    async def _until_due(self) -> None:
        while True:
            self._timer.clear()
            left = None if self._due is None else (self._due - self._store.now()) / 1000
            if left is not None and left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._timer.wait()
            except TimeoutError:
                return

    async def _spawn_chunks(self) -> None:
        while True:
            await self._spawn.wait()
            self._spawn.clear()
            while self._spawns:
                job_id, step = self._spawns.pop()
                try:
                    await self._store.spawn(job_id, step)
                except StoreUnavailable as error:
                    await self._wait_out("spawn branches", error)

    async def _wait_out(self, what: str, error: StoreUnavailable) -> None:
        self._away.warn(f"cannot {what}", why=error.message)
        await asyncio.sleep(error.again_after)
