"""Re-keying: the loop that tries waiting tasks on the contracts that their needs do not speak of yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice

from holon.domain.matching import Need
from holon.engine.needs import Needs
from holon.errors import StoreUnavailable, Unavailable
from holon.ports import Leases, TaskRecord
from holon.telemetry.seldom import Seldom
from holon.turns import Turn

log = logging.getLogger(__name__)

# So many needs with fewer tasks than that are tried together: thousands may have one or two each, and then what takes
# time are the calls.
NEEDS = 50
FEW = 5
# Of many tasks, so many are tried at a time: others have the store, and the event loop, between.
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
                self._away.warn("waiting tasks cannot be checked against new contracts", why=error.message)
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

    async def _turn(self) -> None:
        """Try tasks of the needs whose turn it is. What was tried waits there no more."""
        # Whoever tells of one from now on has it gone through once more.
        some = {need: self._trying.pop(need) for need in list(islice(self._trying, NEEDS))}
        left = {need: after for need, after in some.items() if self._needs.untried(need)}
        try:
            for need in await self._try_first(left):
                await self._try_many(need, left)
        finally:
            for need, after in left.items():
                self._trying.setdefault(need, after)

    async def _try_first(self, left: dict[Need, str]) -> Sequence[Need]:
        """Try the tasks of those of these needs that have a few; answers with the others.

        Arguments:
            left: the last task that was tried, of each; those that have no more are taken out.
        """
        reads = [self._store.queued_tasks(need.key, after, FEW) for need, after in left.items()]
        few: list[tuple[Need, Sequence[TaskRecord]]] = []
        many: list[Need] = []
        # All of them are over before one that failed is told of.
        for need, page in zip(tuple(left), await asyncio.gather(*reads, return_exceptions=True), strict=True):
            if isinstance(page, BaseException):
                raise page
            if len(page) < FEW:
                few.append((need, page))
            else:
                # Pages are in the order of ids: the first few of many would overtake the others.
                many.append(need)
        moves = [one for need, page in few for one in [move async for move in self._tried(need, page)]]
        if moves:
            await self._store.rekey(moves)
        for need, page in few:
            self._went_on(need, page, left)
        return many

    async def _try_many(self, need: Need, left: dict[Need, str]) -> None:
        """Try some pages of a need's tasks, as `_try_first`."""
        for _ in range(TURN):
            if not self._needs.untried(need):
                del left[need]
                return
            page = await self._store.queued_tasks(need.key, left[need], PAGE)
            if page:
                await self._store.rekey([move async for move in self._tried(need, page)])
            if not self._went_on(need, page, left):
                return

    @staticmethod
    def _went_on(need: Need, page: Sequence[TaskRecord], left: dict[Need, str]) -> bool:
        if page:
            left[need] = page[-1].id
        else:
            del left[need]
        return bool(page)

    async def _tried(self, need: Need, page: Sequence[TaskRecord]) -> AsyncIterator[tuple[str, Need]]:
        """Each task's new need. Others run in between where their params are dear to check: each may take long."""
        turn = Turn()
        for task in page:
            yield task.id, self._needs.tried(need, task.params)
            if turn.over:
                await turn.rest()
