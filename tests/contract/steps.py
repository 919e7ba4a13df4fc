"""Steps of jobs that nobody has claimed, and new jobs that come with their first."""

from __future__ import annotations

from typing import Any

from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.ports import Claim, NewJob, Step
from tests.contract.world import World


def unclaimed(world: World, job: Job, status: Status, **fields: Any) -> Step:
    """A step of a job that nobody has claimed."""
    return world.step(Claim(job, "", (), 0), status, **fields)


def with_step(world: World, status: Status = Status.WAITING_FOR_WORKER, **fields: Any) -> NewJob:
    """A new job whose first step is decided: by default, that it waits for a task."""
    new = world.new_job(**fields)
    claim = Claim(new.job, "", (), 0)
    tasks = (world.task(claim),) if status is Status.WAITING_FOR_WORKER else ()
    step = unclaimed(world, new.job, status, tasks=tasks)
    return replace(new, history=(), step=replace(step, history=new.history + step.history))
