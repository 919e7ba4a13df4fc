"""The executor: runs claimed jobs, as far as their handlers decide."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from holon.engine.run import Run, Tools
from holon.errors import StoreUnavailable, Unavailable
from holon.ports import Claim
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# A job whose run failed by a fault of the node is tried again after this time (seconds).
FAULT_PAUSE_S = 1.0


class Executor:
    """Runs each claimed job in a task of its own.

    Arguments:
        tools: what the runs need.
        limit: how many jobs run at once, at most.
    """

    def __init__(self, tools: Tools, limit: int) -> None:
        self.limit = limit
        self._tools = tools
        self._away = Seldom(log)
        self._open = True
        self._runs: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"Executor(running={self.running}, limit={self.limit}, open={self._open})"

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    @property
    def free(self) -> int:
        """How many more could."""
        return max(0, self.limit - self.running)

    async def run(self) -> None:
        """Run jobs until cancelled; what was not committed then runs again."""
        ours = asyncio.current_task()
        # Whoever ends the runs has this task cancelled too, and before any of them hears of it.
        self._tools.handlers.ending = lambda: ours is not None and ours.cancelling() > 0
        async with asyncio.TaskGroup() as runs:
            self._runs = runs
            self._tools.store.run_jobs(self.limit if self._open else 0, self._begin)
            try:
                await asyncio.Event().wait()
            finally:
                self._runs = None
                self._tools.store.run_jobs(0, self._begin)

    def close(self) -> None:
        """Take no more jobs; those that are claimed already still run."""
        self._open = False
        self._tools.store.run_jobs(0, self._begin)

    async def idle(self) -> None:
        """Wait until no job runs."""
        while self._running:
            self._ended.clear()
            await self._ended.wait()

    def _begin(self, claim: Claim) -> None:
        self._start(self._run(claim), claim)

    def _start(self, work: Coroutine[Any, Any, None], claim: Claim) -> None:
        if self._runs is None:
            # The store takes back what is claimed when it closes.
            work.close()
            return
        task = self._runs.create_task(work, name=f"job-{claim.job.id}")
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended.set()

    async def _run(self, claim: Claim) -> None:
        facts = {"job_id": claim.job.id}
        pause, counted = FAULT_PAUSE_S, True
        try:
            await Run(self._tools, claim).go()
        except asyncio.CancelledError:
            if self._tools.handlers.ending():
                raise
            # It counts: a handler that does this again and again is found out.
            log.warning("job %s: the handler cancelled its own run", claim.job.id, extra=facts)
            pause = 0.0
        except Unavailable as error:
            self._away.warn("job %s: the step was not stored", claim.job.id, why=error.message, **facts)
            # Nothing of this run happened.
            pause, counted = error.again_after, False
        except Exception:
            log.exception("job %s: the run failed unexpectedly", claim.job.id, extra=facts)
        else:
            return
        # A task of its own: this one may have been cancelled by its handler again.
        self._start(self._release(claim, pause, counted=counted), claim)

    async def _release(self, claim: Claim, pause: float, *, counted: bool) -> None:
        """Give a claim back after a pause (seconds), for its job to be claimed again."""
        while True:
            await asyncio.sleep(pause)
            try:
                return await self._tools.store.release(claim, counted=counted)
            except StoreUnavailable as error:
                job_id = claim.job.id
                self._away.warn("job %s: the claim was not released", job_id, why=error.message, job_id=job_id)
                pause = error.again_after
