"""Refusals: waiting tasks whose params every known offering of their skill refuses; after a while they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import orjson

from holon.domain.matching import Need
from holon.domain.task import FAILURE, INVALID_INPUT_ERROR, Outcome, TaskError
from holon.domain.texts import MAX_ERROR_MESSAGE, clipped
from holon.engine.dispatcher import Dispatcher
from holon.engine.needs import Needs
from holon.errors import Unavailable
from holon.ports import Leases, TaskRecord
from holon.telemetry.seldom import Seldom
from holon.turns import Turn

log = logging.getLogger(__name__)

# So long all offerings must have refused a task, and their contracts must have stayed the same.
PATIENCE_MS = 10_000
# What waits is looked at so often.
EVERY_S = 1.0
# So many tasks of a match key are looked at together, in pages; those behind them have their turn later.
MOST = 10_000
PAGE = 250


@dataclass(frozen=True, slots=True)
class _Refused:
    """The tasks that waited behind a match key at a time (epoch milliseconds), and the contracts that refused them."""

    contracts: frozenset[str]
    tasks: frozenset[str]
    since: int


class Refusals:
    """Fails tasks whose params all offerings of their skill have refused for ten seconds.

    Each node does so for the skills that its own workers offer: it knows their contracts, and so what is wrong. A task
    that is tried on a new contract gets another match key with that, so it is not failed under the old one.

    Arguments:
        now: the store's clock, in epoch milliseconds.
    """

    def __init__(self, dispatcher: Dispatcher, needs: Needs, store: Leases, now: Callable[[], int]) -> None:
        self._dispatcher = dispatcher
        self._needs = needs
        self._store = store
        self._now = now
        self._refused: dict[Need, _Refused] = {}
        self._some = asyncio.Event()
        self._away = Seldom(log)
        dispatcher.waits = self._some.set

    def __repr__(self) -> str:
        return f"Refusals({len(self._refused)})"

    async def run(self) -> None:
        """Look at what waits, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            try:
                await self._look()
            except Unavailable as error:
                self._away.warn("tasks that no worker accepts cannot be looked up", why=error.message)
                self._some.set()
            if self._refused:
                self._some.set()
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        found = self._dispatcher.refused()
        for need in self._refused.keys() - found.keys():
            del self._refused[need]
        for need, contracts in found.items():
            known = self._refused.get(need)
            if known is not None and known.contracts == contracts:
                if self._now() < known.since + PATIENCE_MS:
                    continue
                await self._fail(need, known)
            # Those that came since then have as long from now on.
            tasks = await self._waiting(need.key)
            self._refused.pop(need, None)
            if tasks:
                self._refused[need] = _Refused(contracts, tasks, self._now())

    async def _waiting(self, key: str) -> frozenset[str]:
        tasks = await self._read(key)
        if not tasks:
            # Nobody is given tasks of this key, so nothing else finds that none is left. One may come meanwhile.
            self._dispatcher.waits_no_more(key)
            tasks = await self._read(key)
            if tasks:
                await self._dispatcher.wait_for((key,))
        return tasks

    async def _read(self, key: str) -> frozenset[str]:
        tasks: dict[str, None] = {}
        async for page in self._pages(key):
            tasks.update(dict.fromkeys(task.id for task in page))
            if len(tasks) >= MOST:
                break
        return frozenset(tasks)

    async def _pages(self, key: str) -> AsyncIterator[Sequence[TaskRecord]]:
        """The tasks that wait behind a match key; those of a page may be ended before the next is asked for."""
        after, seen = "", set[str]()
        while page := [one for one in await self._store.queued_tasks(key, after, PAGE) if one.id not in seen]:
            seen.update(one.id for one in page)
            after = page[-1].id
            yield page

    async def _fail(self, need: Need, refused: _Refused) -> None:
        """Fail those of the tasks that still wait behind the match key of this need."""
        turn = Turn()
        async for page in self._pages(need.key):
            ends: list[tuple[str, Outcome]] = []
            for task in page:
                if task.id in refused.tasks:
                    # Explaining what is wrong with the params of one may take a whole turn.
                    if turn.over:
                        await turn.rest()
                    ends.append((task.id, self._failure(need, task.params)))
            # While that is found out, somebody may have come.
            if self._dispatcher.refused_by(need) != refused.contracts:
                return
            if ends:
                await self._store.end_queued(need.key, ends)

    def _failure(self, need: Need, params: bytes) -> Outcome:
        wrong = self._needs.misfit(need, params)
        message = (
            f"every worker with skill {need.skill!r} refuses the params: {wrong.field} {wrong.reason}. No worker "
            f"with another contract connected within {PATIENCE_MS / 1000:g} s"
        )
        details = orjson.dumps([{"field": wrong.field, "reason": wrong.reason}])
        error = TaskError(INVALID_INPUT_ERROR, clipped(message, MAX_ERROR_MESSAGE), details)
        return Outcome(FAILURE, error=error)
