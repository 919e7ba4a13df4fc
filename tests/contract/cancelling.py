"""A cancel, as the node of a job handles it."""

from __future__ import annotations

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.ports import Appended
from tests.contract.world import World

CANCEL = CancelRequested("ann")


async def cancel(world: World, job: str, **fields: object) -> None:
    """The cancel is handled: the job ends, and its tasks with it."""
    assert await world.append(job, CANCEL) is Appended.APPENDED
    claim = await world.claim_of(job)
    assert CANCEL in [event for _, event in claim.events]
    await world.commit(world.step(claim, Status.CANCELLED, end_tasks=True, **fields))
