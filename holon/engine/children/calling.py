"""Children: what a handler asks for that runs a blueprint: whether that can be, and as what job."""

from __future__ import annotations

from holon.domain.children import request_of
from holon.domain.decisions import RunBlueprint
from holon.domain.job import Job
from holon.domain.task import task_id
from holon.domain.value import replace
from holon.engine.blueprints import Blueprints
from holon.engine.inputs import Inputs
from holon.engine.requests import Creating
from holon.errors import FailedPrecondition
from holon.ports import Storage


class Calling:
    """Looks at what handlers ask for, before anything is written.

    Arguments:
        inputs: checks what jobs are given.
        max_depth: how many jobs may be in one line, each a part of the one before.
    """

    def __init__(self, store: Storage, blueprints: Blueprints, inputs: Inputs, max_depth: int) -> None:
        self._store = store
        self._blueprints = blueprints
        self._inputs = inputs
        self._max_depth = max_depth

    def __repr__(self) -> str:
        return f"Calling(max_depth={self._max_depth})"

    def checked(self, job: Job, asked: RunBlueprint) -> RunBlueprint:
        """What is asked for, with the id that its job is to have.

        Raises:
            NotFound: (BLUEPRINT_NOT_FOUND) there is no such blueprint.
            InvalidArgument: (INPUT_INVALID, LIMIT_EXCEEDED) its contract does not take what the job is to be given.
            FailedPrecondition: (NESTED_TOO_DEEP) there are as many jobs above it as there may be.
        """
        blueprint, contract = self._blueprints.for_jobs(asked.blueprint)
        if job.depth + 2 > self._max_depth:
            raise FailedPrecondition(
                f"run_blueprint: a job of {asked.blueprint!r} would be number {job.depth + 2} in its line of jobs, "
                f"over MAX_HOLARCHY_DEPTH of {self._max_depth}; have what runs itself come to an end, or raise that",
                code="NESTED_TOO_DEEP",
            )
        self._inputs.read(Creating(asked.blueprint, asked.initial_data), blueprint, contract)
        request = request_of(task_id(job.id, job.step, 0))
        return replace(asked, child_job_id=self._store.new_job_id(job.owner, request))

    async def budgeted(self, job: Job, asked: RunBlueprint) -> RunBlueprint:
        """The same of a job with a budget: all that is left of that is for its part, while it waits for it."""
        record = await self._store.job(job.id)
        if record is None or job.budget is None:
            return asked
        return replace(asked, max_cost=max(0, job.budget - (record.spent or 0)))
