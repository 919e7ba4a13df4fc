"""New jobs: written with their first steps, where those can be decided at once, and offered to workers with that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from holon.domain.matching import Need
from holon.domain.value import Value, replace
from holon.engine.dispatcher import Dispatcher
from holon.engine.fusing import Fusing
from holon.engine.planning import Plan
from holon.errors import HolonError, InvalidArgument, ResourceExhausted
from holon.ports import Created, Creation, NewJob, Quota, Storage
from holon.telemetry.events import Telemetry
from holon.turns import one_by_one

log = logging.getLogger(__name__)


class Made(Value, gc=True):
    """What became of a new job, and the id of the one that is there; `noted` is the new version of its note."""

    job_id: str
    creation: Creation
    noted: int | None = None


# A new job, and its first step if that was decided.
_Item: TypeAlias = tuple[NewJob, Plan | None]


class Creations:
    """Writes new jobs. Where all of the store is at one place, those that come together are one call of it."""

    def __init__(self, store: Storage, dispatcher: Dispatcher, fusing: Fusing, telemetry: Telemetry) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._fusing = fusing
        self._telemetry = telemetry
        # The quotas that clients have used up, as far as this node has seen.
        self._spent: dict[str, Quota] = {}

    def __repr__(self) -> str:
        return f"Creations({self._store!r})"

    async def write(self, new: NewJob) -> Made:
        """Write a new job; raises as `Steps.create_jobs`."""
        return await self._alone(new, self._first(new))

    async def write_all(self, new: Sequence[NewJob]) -> Sequence[Made | HolonError]:
        """Write new jobs, each by itself: for each, in their order, what became of it, or why it could not be."""
        items: Sequence[_Item] = await one_by_one(lambda one: (one, self._first(one)), new)
        if len(items) > 1 and self._store.at_one_place:
            try:
                return await self._write(items)
            except (InvalidArgument, ResourceExhausted):
                # Nothing was written, and one of them may be at fault.
                log.debug("%d new jobs are stored one by one", len(items))
            except HolonError as error:
                return [error] * len(items)
        if len(items) == 1:
            return [await self._tried(*items[0])]
        return await asyncio.gather(*(self._tried(*one) for one in items))

    def _first(self, new: NewJob) -> Plan | None:
        if new.job.parent_job_id:
            # Before its first handler it is to be seen whether the job above still waits for it.
            return None
        # What is known to be refused runs no handler of its client's.
        spent = new.quota is not None and self._spent.get(new.job.owner) == new.quota
        return None if spent else self._fusing.first(new.job, new.history)

    async def _tried(self, new: NewJob, plan: Plan | None) -> Made | HolonError:
        try:
            return await self._alone(new, plan)
        except HolonError as error:
            return error

    async def _alone(self, new: NewJob, plan: Plan | None) -> Made:
        try:
            [made] = await self._write(((new, plan),))
        except InvalidArgument:
            if plan is None:
                raise
            # What was decided cannot be stored; the longer way makes that the handler's failure.
            facts = {"job_id": new.job.id}
            log.debug("job %s: its first step cannot be stored together with the job", new.job.id, extra=facts)
            [made] = await self._write(((new, None),))
        return made

    async def _write(self, items: Sequence[_Item]) -> Sequence[Made]:
        needs = _needs_of(items)
        rows = [new if plan is None else replace(new, history=(), step=plan.step) for new, plan in items]
        seats = self._dispatcher.seats_for(needs)
        with self._dispatcher.naming(seats) as named:
            reply = await self._store.create_jobs(rows, seats)
            named.leased = reply.leased
        made = self._made(items, reply)
        if needs:
            await self._dispatcher.wait_without(seats, needs)
        # First their offers go out, and their handlers go on: that is the jobs' time, and their creator's is not.
        await asyncio.sleep(0)
        return made

    def _made(self, items: Sequence[_Item], reply: Created) -> Sequence[Made]:
        notes = reply.notes or (None,) * len(items)
        made: list[Made] = []
        for (new, plan), (job_id, creation), noted in zip(items, reply.jobs, notes, strict=True):
            if creation is Creation.CREATED and plan is not None:
                job = plan.step.job
                self._fusing.mirror.keep(job)
                self._telemetry.written(job, self._store.now())
            elif creation is Creation.OVER_QUOTA and new.quota is not None:
                self._spent[new.job.owner] = new.quota
            made.append(Made(job_id, creation, noted))
        return made


def _needs_of(items: Sequence[_Item]) -> Mapping[Need, int]:
    """The needs of all of their tasks: how many of each."""
    plans = [plan for _, plan in items if plan is not None]
    if len(plans) == 1:
        return plans[0].needs
    needs: dict[Need, int] = {}
    for plan in plans:
        for need, n in plan.needs.items():
            needs[need] = needs.get(need, 0) + n
    return needs
