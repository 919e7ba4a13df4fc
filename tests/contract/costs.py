"""Jobs with a budget, and what their tasks cost."""

from __future__ import annotations

from typing import Any

from holon.domain.job import Status
from holon.domain.task import Outcome
from holon.ports import Committed, Offer, Result, Superseded
from tests.contract.world import OK, Hand, World


async def with_budget(world: World, budget: int, caps: list[int], **more: Any) -> Committed:
    """A new job with so much to spend asks for a task, or for several, each of which may cost so much."""
    claim = await world.start(budget=budget)
    tasks = tuple(world.task(claim, index, reserves=cap, **more) for index, cap in enumerate(caps))
    return await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks))


async def given(world: World, hand: Hand, budget: int = 100, cap: int = 40, **more: Any) -> Offer:
    """The only task of a new job with this budget, accepted."""
    assert not (await with_budget(world, budget, [cap], **more)).over_budget
    [offer] = await world.lease(hand.seat())
    await world.touch(accepts=(hand.ref(offer),))
    return offer


async def ends(
    world: World, offer: Offer, cost: int | None, outcome: Outcome = OK, retry_after: int | None = None
) -> Superseded | None:
    result = Result(offer.task_id, offer.lease_id, outcome, retry_after, cost=cost)
    return (await world.storage.complete([result], offer.worker_id, ())).verdicts[0]


async def affords(world: World, job_id: str, cap: int) -> bool:
    """Whether a job, which is ready, may have another task that may cost so much; if so it has."""
    claim = await world.claim_of(job_id)
    task = world.task(claim, reserves=cap)
    done = await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,)))
    if done.over_budget:
        # Nothing was written, and the claim is as it was.
        await world.release(claim)
    return not done.over_budget


async def cost(world: World, offer: Offer) -> int | None:
    return (await world.record(offer.job_id)).cost
