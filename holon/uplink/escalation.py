"""The uplink: tasks that nobody here can do are given back, so that the parent may have another do them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import task_id
from holon.engine.dispatcher import Dispatcher
from holon.engine.jobs import Jobs
from holon.errors import HolonError
from holon.ports import JobRecord, Leases, TaskRecord
from holon.uplink.delegated import Delegated
from holon.uplink.providers import Providers
from holon.uplink.serving import Serving

log = logging.getLogger(__name__)

LOOK_S = 1.0
_LINES = 1_000
# So many tasks of a fan-out are looked at each time, and before it is given back.
_FIRST, _ALL = 32, 1_000


@dataclass(slots=True)
class _Waiting:
    """What a job waits for, the workers that gave it back as nobody below them could do it, and since when nobody else
    could either, on the loop's clock; None: somebody can."""

    need: Need
    unserved: frozenset[str]
    since: float | None = None


class Escalation:
    """Looks after the parent's jobs whose tasks wait for a worker. That all are busy is no reason to give one back.

    Arguments:
        store: where tasks are looked up.
        after: for how many seconds there must have been nobody, at most.
    """

    def __init__(
        self,
        serving: Serving,
        store: Leases,
        jobs: Jobs,
        dispatcher: Dispatcher,
        providers: Providers,
        after: float,
    ) -> None:
        self._serving = serving
        self._store = store
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._providers = providers
        # How often it looks, and so how much later than it is so it may be seen that there is nobody.
        self._every = min(LOOK_S, after / 2)
        self._after = after - self._every
        self._waiting: dict[str, _Waiting] = {}

    def __repr__(self) -> str:
        return f"Escalation(waiting={len(self._waiting)})"

    async def run(self) -> None:
        """Give back what nobody can do, until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            waiting = {one.entry.job_id: one for one in self._serving.waiting}
            self._waiting = {job_id: known for job_id, known in self._waiting.items() if job_id in waiting}
            for job_id, running in waiting.items():
                try:
                    await self._look(job_id, running)
                except HolonError as error:
                    log.debug("job %s is checked later: %s", job_id, error.message, extra={"job_id": job_id})

    async def _look(self, job_id: str, running: Delegated) -> None:
        waiting = self._waiting.get(job_id)
        if waiting is None or running.came_back:
            found = await self._waits_for(running, _FIRST)
            if found is None:
                self._waiting.pop(job_id, None)
                return
            if waiting is not None and waiting.need == found.need:
                found.since = waiting.since
            waiting = self._waiting[job_id] = found
        now = asyncio.get_running_loop().time()
        if self._has_somebody(waiting.need, waiting.unserved):
            waiting.since = None
            if not running.unplaced:
                # That a task of a fan-out or of a part was had and given back is not seen.
                del self._waiting[job_id]
        elif waiting.since is None:
            waiting.since = now
        elif now - waiting.since >= self._after:
            del self._waiting[job_id]
            found = await self._waits_for(running, _ALL)
            if found is not None and found.need == waiting.need and not await self._was_leased(running):
                self._serving.jobs.give_back(running, self._why(found))

    def _why(self, waiting: _Waiting) -> str:
        if self._has_somebody(waiting.need, frozenset()):
            return f"no worker below the holons that offer skill {waiting.need.skill!r} can do it"
        return self._dispatcher.why(waiting.need)

    def _has_somebody(self, need: Need, unserved: frozenset[str]) -> bool:
        return self._dispatcher.can_do(need, unserved) or self._providers.can_do_elsewhere(need, unserved)

    async def _waits_for(self, running: Delegated, most: int) -> _Waiting | None:
        """What a job waits for; of a fan-out, the first task among so many that nobody can do. None: for nothing.

        Where it waits for a part of it, that is what the part waits for.
        """
        record = [one async for one in self._line(running)][-1]
        waiting = record.job.waiting
        if waiting is None:
            return None if record.queued_need is None else _Waiting(record.queued_need, frozenset())
        if record.job.status is not Status.WAITING_FOR_PARALLEL:
            task = await self._store.task(task_id(record.job.id, waiting.step, 0)) if record.queued_need else None
            if task is not None and task.begun:
                # By what is stored: perhaps another node, or this one before it started again, has seen that.
                running.was_placed = True
                return None
            return None if task is None else _Waiting(task.need, frozenset(task.unserved))
        found: _Waiting | None = None
        for index in range(most):
            task = await self._store.task(task_id(record.job.id, waiting.step, index))
            if task is None:
                break
            if task.begun or task.state != "queued":
                running.was_placed |= task.begun and not self._may_come_back(task)
                return None
            if found is None and not self._has_somebody(task.need, unserved := frozenset(task.unserved)):
                found = _Waiting(task.need, unserved)
        return found

    def _may_come_back(self, task: TaskRecord) -> bool:
        """Whether a task is with a holon, or at another node with who may be one: perhaps nobody there can do it."""
        sessions = self._dispatcher.sessions
        return task.state == "leased" and not any(
            one.worker_id == task.worker_id and not one.is_holon for one in sessions
        )

    async def _was_leased(self, running: Delegated) -> bool:
        """Whether a worker had any task of the job, or of what it waits for: then what it did would be lost."""
        if running.was_placed:
            return True
        async for record in self._line(running):
            lines, _ = await self._jobs.history(running.entry.owner, record.job.id, _LINES)
            if any(line.details.get("attempts") for _, line in lines):
                return True
        return False

    async def _line(self, running: Delegated) -> AsyncIterator[JobRecord]:
        """The job, the part of it that it waits for, the part of that, and so on."""
        job_id = running.entry.job_id
        while job_id:
            record = await self._jobs.get(running.entry.owner, job_id)
            yield record
            waits = record.job.status is Status.WAITING_FOR_CHILD
            job_id = record.job.parts[0] if waits and record.job.parts else ""
