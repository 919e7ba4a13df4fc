"""Re-keying: the loop that tries waiting tasks on the contracts that their needs do not speak of yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence

from holon.domain.matching import Need
from holon.engine.needs import Needs
from holon.errors import StoreUnavailable, Unavailable
from holon.ports import Leases, TaskRecord
from holon.telemetry.seldom import Seldom
from holon.turns import Turn

log = logging.getLogger(__name__)

# So many tasks are tried at a time: others have the store, and the event loop, between.
PAGE = 250
# So many pages of one need in a row, then it is the turn of the next. The store in Redis looks through a queue once for
# as many tasks as these have.
TURN = 40
# Whoever brings a contract waits so long for what waits to be tried on it: a few thousand tasks are, and no newer one
# overtakes them. Of more than that, what is left is tried afterwards.
PATIENCE_S = 0.5


class Rekeying:
    """Gives waiting tasks new needs, a page at a time. Whoever fits those is told by the store's hints, page by page.

    A need can be older than a contract: its task waited already, or was decided upon while the contract came.

    Arguments:
        needs: what is known of contracts.
        store: where the tasks wait.
    """

    def __init__(self, needs: Needs, store: Leases) -> None:
        self._needs = needs
        self._store = store
        # Skills with a new contract, whose waiting needs are to be looked up; and needs to try, in turn, each with the
        # last of its tasks that was tried, by its id.
        self._skills: set[str] = set()
        self._trying: dict[Need, str] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._away = Seldom(log)

    def __repr__(self) -> str:
        return f"Rekeying(skills={len(self._skills)}, trying={len(self._trying)})"

    def skill(self, skill: str) -> None:
        """A contract of this skill is new here."""
        self._skills.add(skill)
        self._begin()

    def waiting(self, needs: Iterable[Need]) -> None:
        """Tasks with these needs wait."""
        for need in needs:
            if self._needs.untried(need):
                # From the first on: some may stand before those that were tried, which are not there any more.
                self._trying[need] = ""
                self._begin()

    def _begin(self) -> None:
        self._none.clear()
        self._some.set()

    async def settled(self) -> None:
        """Wait until all that is known to wait has been tried, but not for long."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._none.wait()
        except TimeoutError:
            pass

    async def run(self) -> None:
        """Try what there is and what comes, until cancelled; a store that is away just now is waited for."""
        while True:
            await self._some.wait()
            try:
                await self._look_up()
                await self._turn()
            except Unavailable as error:
                self._away.warn("cannot try waiting tasks on new contracts", why=error.message)
                await asyncio.sleep(error.again_after)
            if not self._skills and not self._trying:
                self._some.clear()
                self._none.set()

    async def _look_up(self) -> None:
        while self._skills:
            skill = self._skills.pop()
            try:
                found = await self._store.queued(skill)
            except StoreUnavailable:
                self._skills.add(skill)
                raise
            self.waiting(need for need, _ in found.values())

    async def _tried(self, need: Need, page: Sequence[TaskRecord]) -> AsyncIterator[tuple[str, Need]]:
        """Each task's new need. Others run in between where their params are dear to check: each may take long."""
        turn = Turn()
        for task in page:
            yield task.id, self._needs.tried(need, task.params)
            if turn.over:
                await turn.rest()

    async def _turn(self) -> None:
        """Try tasks of the need whose turn it is. What was tried waits there no more."""
        need = next(iter(self._trying), None)
        if need is None:
            return
        # Whoever tells of it from now on has it gone through once more.
        after = self._trying.pop(need)
        try:
            for _ in range(TURN):
                if not self._needs.untried(need):
                    return
                page = await self._store.queued_tasks(need.key, after, PAGE)
                if not page:
                    return
                await self._store.rekey([one async for one in self._tried(need, page)])
                after = page[-1].id
        except Unavailable:
            self._trying.setdefault(need, after)
            raise
        self._trying.setdefault(need, after)
