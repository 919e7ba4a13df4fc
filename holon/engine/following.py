"""Following: jobs that a part of this node has to see to their end. What is at hand of them is told as it is committed.

It is for many jobs that are short: there is no task for one, and no store is asked where it has told already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from holon.domain.log_lines import Logged
from holon.engine.rounds import Rounds, pause
from holon.errors import HolonError
from holon.ports import JobRecord, Storage
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)


class Watched:
    """The jobs that the store is asked to hint at: each for as long as anybody here wants that."""

    def __init__(self, store: Storage) -> None:
        self._store = store
        self._wanted: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Watched({len(self._wanted)})"

    async def add(self, job_id: str) -> None:
        """Watch a job, once more; raises StoreUnavailable."""
        self._wanted[job_id] = self._wanted.get(job_id, 0) + 1
        try:
            await self._store.watch(job_id)
        except BaseException:
            self.drop(job_id)
            raise

    def expect(self, job_id: str, *, history: bool) -> bool:
        """The same of a job that is about to be made; False: it is to be watched when it is there."""
        expected = self._store.expect(job_id, history=history)
        if expected:
            self._wanted[job_id] = self._wanted.get(job_id, 0) + 1
        return expected

    def drop(self, job_id: str) -> None:
        """One wants it no more."""
        left = self._wanted.pop(job_id) - 1
        if left > 0:
            self._wanted[job_id] = left
        else:
            self._store.unwatch(job_id)


@dataclass(slots=True)
class _Followed:
    """Who is told of a job; whether it is watched; what was told last, how often, and from when on more is told."""

    seen: Callable[[JobRecord | None], None]
    logged: Callable[[Logged], None] | None
    watched: bool
    last: JobRecord | None = None
    next_at: float = 0.0
    times: int = 0


class Following:
    """Tells of jobs as they change, whoever owns them.

    Arguments:
        watched: shared with others who watch.
    """

    def __init__(self, store: Storage, watched: Watched) -> None:
        self._store = store
        self._watched = watched
        self._jobs: dict[str, _Followed] = {}
        self._expected: set[str] = set()
        self._unseen: set[str] = set()
        self._rounds = Rounds(self._jobs, self._read)
        self._away = Seldom(log)

    def __repr__(self) -> str:
        return f"Following({len(self._jobs)}, expected={len(self._expected)})"

    @property
    def unseen(self) -> AbstractSet[str]:
        """Those of the jobs that the store could not show when it was asked last; each is asked for within 30 s."""
        return self._unseen

    def expect(self, job_id: str) -> None:
        """A job is about to be made, and then followed; if it is not, `leave` it."""
        if job_id not in self._expected and job_id not in self._jobs and self._watched.expect(job_id, history=True):
            self._expected.add(job_id)

    def follow(
        self,
        job_id: str,
        seen: Callable[[JobRecord | None], None],
        logged: Callable[[Logged], None] | None = None,
    ) -> None:
        """Follow a job that is there, until `leave`.

        Arguments:
            seen: told the job as it is now and whenever it has changed, soon; None: it is gone.
            logged: told the lines of its tasks' logs, as far as they come here.
        """
        watched = job_id in self._expected
        self._expected.discard(job_id)
        one = self._jobs[job_id] = _Followed(seen, logged, watched)
        self._look(job_id, one)

    def leave(self, job_id: str) -> None:
        """Follow it no more."""
        one = self._jobs.pop(job_id, None)
        self._unseen.discard(job_id)
        if job_id in self._expected or (one is not None and one.watched):
            self._expected.discard(job_id)
            self._watched.drop(job_id)

    def changed(self, jobs: AbstractSet[str]) -> None:
        """These watched jobs have changed."""
        if not self._jobs:
            return
        for job_id in self._jobs.keys() & jobs:
            one = self._jobs.get(job_id)
            if one is not None:
                self._look(job_id, one)

    def logged(self, job_id: str, logged: Logged) -> None:
        """A task of a job wrote lines of its log."""
        one = self._jobs.get(job_id)
        if one is not None and one.logged is not None:
            try:
                one.logged(logged)
            except Exception:
                # Whoever hints is not to end for one job.
                log.exception("lines of job %s cannot be sent to its watchers", job_id, extra={"job_id": job_id})

    async def run(self) -> None:
        """Read what is not at hand, and look again at what was too soon, until cancelled."""
        await self._rounds.run()

    def _look(self, job_id: str, one: _Followed) -> None:
        """Tell what is at hand; what is not, or was told a moment ago, is left to `run`."""
        record = None
        if one.watched and asyncio.get_running_loop().time() >= one.next_at:
            record = self._at_hand(job_id)
        if record is None:
            self._rounds.mark(job_id)
        else:
            self._tell(job_id, one, record)

    def _at_hand(self, job_id: str) -> JobRecord | None:
        try:
            return self._store.at_hand(job_id)
        except Exception:
            # Whoever hints is not to end for one job, nor are others to go untold; a reading of it finds the same.
            log.exception("news of job %s cannot be sent at once", job_id, extra={"job_id": job_id})
            return None

    def _tell(self, job_id: str, one: _Followed, record: JobRecord | None) -> None:
        if record is not None and record is one.last:
            return
        one.last, one.times = record, one.times + 1
        one.next_at = asyncio.get_running_loop().time() + pause(one.times)
        try:
            one.seen(record)
        except Exception:
            # Whoever hints is not to end for one job.
            log.exception("job %s cannot be watched", job_id, extra={"job_id": job_id})

    async def _read(self, job_id: str) -> float | None:
        """Read a job and tell it; where that cannot be, answers after how many seconds to do so again."""
        one = self._jobs.get(job_id)
        if one is None:
            return None
        try:
            if not one.watched:
                await self._watched.add(job_id)
                one.watched = True
                if self._jobs.get(job_id) is not one:
                    self._watched.drop(job_id)
                    return None
            record = await self._store.job(job_id)
        except HolonError as error:
            self._away.warn("job %s is read again later", job_id, why=error.message, job_id=job_id)
            if self._jobs.get(job_id) is one:
                self._unseen.add(job_id)
            return error.again_after
        if self._jobs.get(job_id) is one:
            self._unseen.discard(job_id)
            self._tell(job_id, one, record)
        return None
