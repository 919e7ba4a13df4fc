"""How a task has ended, as its job is told."""

from __future__ import annotations

from holon.domain.events import HistoryEvent, TaskEnded
from holon.domain.task import RetryPolicy
from tests.contract.world import World

ONCE = RetryPolicy(max_retries=0)


async def ended(world: World, job: str) -> tuple[str, str, int]:
    """The outcome with which a job's only task ended: status, code, tries."""
    [(_, event)] = (await world.claim_of(job)).events
    assert isinstance(event, TaskEnded)
    assert event.step == 0
    return event.outcome.status, event.outcome.error.code if event.outcome.error else "", event.tries


async def ends_told(world: World, job: str) -> list[HistoryEvent]:
    """What a job's history says of how its tasks ended."""
    return [line for line in await world.told(job) if line.type == "task_finished"]
