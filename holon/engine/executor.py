"""The executor: runs claimed jobs, one lane each, and commits what their handlers decide."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from holon.engine.run import Run, Tools
from holon.errors import StoreUnavailable, Unavailable
from holon.ports import Claim
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)


class Executor:
    """Long-lived lanes that run one claimed job after the other, and the keeper of their claims.

    Arguments:
        tools: what the runs need.
        claim_ms: how long a claim lasts; it is renewed after a third of that.
    """

    def __init__(self, tools: Tools, claim_ms: int) -> None:
        self._tools = tools
        self._claim_ms = claim_ms
        self._away = Seldom(log)
        # Claims under way: job to claim id.
        self._running: dict[str, str] = {}
        # When the keeper last saw to them.
        self._seen_to = time.monotonic()

    def __repr__(self) -> str:
        return f"Executor(running={len(self._running)}, {self._tools.slots!r})"

    async def run(self) -> None:
        """Run jobs until cancelled; what was not committed then is released or expires, and runs again."""
        ours = asyncio.current_task()
        # Whoever ends the lanes has this task cancelled too, and before any of them hears of it.
        self._tools.handlers.ending = lambda: ours is not None and ours.cancelling() > 0
        async with asyncio.TaskGroup() as lanes:
            for number in range(self._tools.slots.limit):
                lanes.create_task(self._lane(), name=f"lane-{number}")
            lanes.create_task(self._keep(), name="keeper")

    async def _lane(self) -> None:
        slots, ending = self._tools.slots, self._tools.handlers.ending
        # Of the cancel that ends a lane it may hear nothing: a handler may have taken it for itself.
        while not ending():
            claim = await slots.take()
            try:
                await self._run(claim)
            finally:
                slots.done()

    async def _run(self, claim: Claim) -> None:
        job_id = claim.job.id
        self._running[job_id] = claim.claim_id
        try:
            await self._go(claim)
        except asyncio.CancelledError:
            if not self._tools.handlers.ending():
                # The claim expires: a handler that does this again and again is found out.
                log.warning("job %s: the handler cancelled its own run", job_id, extra={"job_id": job_id})
                return
            await asyncio.shield(self._release(claim))
            raise
        except Exception:
            log.exception("job %s: the run failed unexpectedly", job_id, extra={"job_id": job_id})
        finally:
            self._running.pop(job_id, None)
            if not self._tools.handlers.ending():
                _go_on()

    async def _go(self, claim: Claim) -> None:
        try:
            await Run(self._tools, claim).go()
        except Unavailable as error:
            job_id = claim.job.id
            self._away.warn("job %s: the step was not stored", job_id, why=error.message, job_id=job_id)
            # Nothing of this run happened. A claim that expires counts as if its handler had ended the node.
            await asyncio.sleep(error.again_after)
            await self._release(claim)

    async def _release(self, claim: Claim) -> None:
        try:
            await self._tools.store.release([(claim.job.id, claim.claim_id)])
        except StoreUnavailable as error:
            job_id = claim.job.id
            self._away.warn("job %s: the claim was not released", job_id, why=error.message, job_id=job_id)

    async def _keep(self) -> None:
        while True:
            before = dict(self._running)
            self._seen_to = time.monotonic()
            await asyncio.sleep(self._claim_ms / 3000)
            await self.catch_up()
            await self._renew([(job, claim) for job, claim in self._running.items() if before.get(job) == claim])

    async def catch_up(self) -> None:
        """Renew all claims, if this node has stood still for so long that they may be over.

        Before it does what is due: else it would take its own jobs for those of a node that is gone, and run them
        again.
        """
        if time.monotonic() - self._seen_to > self._claim_ms / 2000:
            await self._renew([*self._running.items()])

    async def _renew(self, claims: Sequence[tuple[str, str]]) -> None:
        if not claims:
            return
        try:
            kept = await self._tools.store.keep(claims)
        except StoreUnavailable as error:
            self._away.warn("claims were not renewed", why=error.message)
            return
        for (job_id, _), ours in zip(claims, kept, strict=True):
            if not ours:
                facts = {"job_id": job_id}
                log.warning(
                    "job %s: the claim was lost, so the decision of its handler has no effect", job_id, extra=facts
                )


def _go_on() -> None:
    """Whatever a handler has made of the task that ran it, the lane goes on."""
    lane = asyncio.current_task()
    while lane is not None and lane.cancelling():
        lane.uncancel()
