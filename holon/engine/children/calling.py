"""Children: what a handler asks for of blueprints: whether that can be, and as what jobs."""

from __future__ import annotations

from typing import TypeAlias

from holon.domain.blueprint import Blueprint
from holon.domain.children import request_of
from holon.domain.decisions import AskedPart, Decision, DispatchParallel, RunBlueprint
from holon.domain.job import Job
from holon.domain.task import CANCELLED, FAILURE, SUCCESS, TIMEOUT, task_id
from holon.domain.texts import meant
from holon.domain.value import replace
from holon.engine.blueprints import Blueprints
from holon.engine.inputs import Inputs
from holon.engine.requests import Creating
from holon.errors import BlueprintError, FailedPrecondition, HolonError, NotFound
from holon.ports import Storage

# What asks for parts.
Calls: TypeAlias = RunBlueprint | DispatchParallel

_ANY_END = (SUCCESS, FAILURE, CANCELLED, TIMEOUT)


def calls(decision: Decision | None) -> Calls | None:
    """A decision that asks for parts; None: it is another one."""
    if isinstance(decision, RunBlueprint) or (isinstance(decision, DispatchParallel) and decision.parts):
        return decision
    return None


class Calling:
    """Looks at what handlers ask for, before anything is written.

    Arguments:
        inputs: checks what jobs are given.
        max_depth: how many jobs may be in one line, each a part of the one before.
    """

    def __init__(
        self,
        store: Storage,
        blueprints: Blueprints,
        inputs: Inputs,
        max_depth: int,
    ) -> None:
        self._store = store
        self._blueprints = blueprints
        self._inputs = inputs
        self._max_depth = max_depth

    def __repr__(self) -> str:
        return f"Calling(max_depth={self._max_depth})"

    def checked(self, job: Job, asked: Calls) -> Calls:
        """What is asked for, with the ids that its jobs are to have.

        Raises:
            BlueprintError: (ACTION_INVALID) the job goes on by an end that no job of the blueprint comes to.
                (BLUEPRINT_NOT_FOUND) there is no such blueprint.
            InvalidArgument: (INPUT_INVALID, LIMIT_EXCEEDED) its contract does not take what the job is to be given.
            FailedPrecondition: (NESTED_TOO_DEEP) there are as many jobs above it as there may be.
        """
        if isinstance(asked, RunBlueprint):
            part = self._checked(job, 0, asked.part, "run_blueprint")
            _check_ways(asked, self._blueprints.for_jobs(part.blueprint)[0])
            return replace(asked, part=part)
        branches = list(asked.branches)
        for at, one in enumerate(branches):
            if isinstance(one, AskedPart):
                branches[at] = self._checked(job, at, one, f"dispatch_parallel: task {at}")
        return replace(asked, branches=tuple(branches))

    def _checked(self, job: Job, index: int, asked: AskedPart, where: str) -> AskedPart:
        try:
            blueprint, contract = self._blueprints.for_jobs(asked.blueprint)
            if job.depth + 2 > self._max_depth:
                raise FailedPrecondition(
                    f"a job of {asked.blueprint!r} would be number {job.depth + 2} in its line of child jobs, over "
                    f"MAX_HOLARCHY_DEPTH of {self._max_depth}; end the recursion, or raise that",
                    code="NESTED_TOO_DEEP",
                )
            self._inputs.read(Creating(asked.blueprint, asked.initial_data), blueprint, contract)
        except NotFound as error:
            raise BlueprintError(f"{where}: {error.message}", code=error.code) from error
        except HolonError as error:
            said = f"{where}: {error.message}"
            raise type(error)(said, code=error.code, details=error.details) from error
        request = request_of(task_id(job.id, job.step, index))
        return replace(asked, child_job_id=self._store.new_job_id(job.owner, request))

    async def budgeted(self, job: Job, asked: Calls) -> Calls:
        """The same of a job with a budget, with what each part may cost of what is left.

        One alone may cost all of that, while it is waited for. Of many at once each branch has an even share, as far as
        those leave it that say what they may cost.
        """
        record = await self._store.job(job.id)
        if record is None or job.budget is None:
            return asked
        left = max(0, job.budget - (record.spent or 0))
        if isinstance(asked, RunBlueprint):
            return replace(asked, part=replace(asked.part, max_cost=left))
        taken = sum(one.max_cost or 0 for one in asked.branches)
        sharing = sum(one.max_cost is None for one in asked.branches)
        if not sharing:
            return asked
        share = min(left // len(asked.branches), max(0, left - taken) // sharing)
        branches = tuple(
            replace(one, max_cost=share) if isinstance(one, AskedPart) and one.max_cost is None else one
            for one in asked.branches
        )
        return replace(asked, branches=branches)


def _check_ways(asked: RunBlueprint, blueprint: Blueprint) -> None:
    ends = sorted({state.status for state in blueprint.states.values() if state.status})
    known = (*_ANY_END, *ends)
    if unknown := [way for way in asked.transitions if way not in known]:
        raise BlueprintError(
            f"run_blueprint: transitions has {unknown[0]!r}, but no job of {blueprint.name!r} ends so; use "
            f"{', '.join(known)}{meant(unknown[0], known)}",
            code="ACTION_INVALID",
        )
