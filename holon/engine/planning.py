"""Planning: a change of a job as a step to write, with each task's params encoded and its need found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from holon.domain.change import Change
from holon.domain.job import Job
from holon.domain.matching import Need
from holon.domain.task import LIMIT_EXCEEDED, TaskSpec, own_statuses
from holon.domain.value import Value, replace
from holon.engine.needs import Needs
from holon.engine.payloads import encode
from holon.errors import RETRY_S, TooLarge
from holon.ports import NewFanOut, NewTask, Step
from holon.randomness import random_id
from holon.turns import Turn

# The branches of a large fan-out that become tasks together.
CHUNK = 200
# What has taken so long already, in seconds, is made once more, with others in between, rather than held on to.
PATIENCE_S = 0.025
# A step is written in one call: what it holds is in memory more than once.
MAX_FAN_OUT_BYTES = 64 * 2**20


class Plan(Value, gc=True):
    """A step to write, and the needs of its tasks: how many of each."""

    step: Step
    needs: Mapping[Need, int]


class _Params:
    """Whose params are encoded, for a message: the words are put together when there is one."""

    spec: TaskSpec

    def __str__(self) -> str:
        return f"the params of task {self.spec.index} for skill {self.spec.skill!r}"


class _Made:
    """The tasks of a step as far as they are made, in chunks, and how many have which need."""

    __slots__ = ("_bytes", "_change", "_job", "_left", "chunks", "needs")

    def __init__(self, job: Job, change: Change) -> None:
        self.chunks: list[list[NewTask]] = []
        self.needs: dict[Need, int] = {}
        self._job = job
        self._change = change
        self._left = len(change.tasks)
        self._bytes = 0

    @property
    def between_chunks(self) -> bool:
        """Whether the next task begins a chunk."""
        return not self.chunks or len(self.chunks[-1]) == CHUNK

    @property
    def done(self) -> bool:
        """Whether these are all."""
        return self._left == 0

    def add(self, task: NewTask) -> None:
        """Take the next one; raises TooLarge when the params of all branches are."""
        if self.between_chunks:
            self.chunks.append([])
        self.chunks[-1].append(task)
        self.needs[task.need] = self.needs.get(task.need, 0) + 1
        self._left -= 1
        self._bytes += len(task.params)
        if self._bytes > MAX_FAN_OUT_BYTES and self._change.fan_out:
            message = (
                f"the params of the {len(self._change.tasks)} tasks of state {self._job.current_state!r} have over "
                f"{MAX_FAN_OUT_BYTES} bytes in total, so nothing was dispatched; store large data elsewhere"
            )
            raise TooLarge(message, code=LIMIT_EXCEEDED)


class Planner:
    """Makes steps of changes.

    Arguments:
        max_payload: the most bytes that the params of one task may have.
    """

    def __init__(self, needs: Needs, max_payload: int) -> None:
        self._needs = needs
        self._max_payload = max_payload

    async def plan(self, job: Job, change: Change, claim_id: str, consumed: tuple[int, ...]) -> Plan:
        """The step by which a claimed job changes; a large fan-out lets others run between two chunks, or more often.

        Raises:
            InvalidArgument: (NOT_JSON, LIMIT_EXCEEDED) the params of a task cannot be sent, or those of a fan-out
                together, or the job's budget does not cover what they may cost.
        """
        if not change.tasks:
            return self._plan(job, change, (), {}, claim_id, consumed)
        made, turn = _Made(job, change), Turn()
        for task in self._tasks(job, change):
            # Trying the params of one on strangers' contracts may take a whole turn.
            if made.chunks and (made.between_chunks or turn.over):
                await turn.rest()
            made.add(task)
        return self._plan(job, change, made.chunks, made.needs, claim_id, consumed)

    def plan_now(self, job: Job, change: Change) -> Plan | None:
        """The same for a job that nobody has claimed; None when making its tasks takes too long at once."""
        if not change.tasks:
            return self._plan(job, change, (), {}, "", ())
        if len(change.tasks) > CHUNK:
            return None
        made, turn = _Made(job, change), Turn()
        for task in self._tasks(job, change):
            made.add(task)
            if not made.done and turn.seconds > PATIENCE_S:
                return None
        return self._plan(job, change, made.chunks, made.needs, "", ())

    def _plan(
        self,
        job: Job,
        change: Change,
        made: Sequence[Sequence[NewTask]],
        needs: Mapping[Need, int],
        claim_id: str,
        consumed: tuple[int, ...],
    ) -> Plan:
        chunks = tuple(map(tuple, made))
        step = Step(
            claim_id,
            random_id(),
            replace(change.job, step=job.step + 1),
            consumed,
            change.history,
            chunks[0] if chunks else (),
            NewFanOut(len(change.tasks), change.fail_fast, chunks[1:]) if change.fan_out else None,
            change.wake_after,
            change.end_tasks,
            change.job.status.due,
            change.as_it_was,
        )
        if job.budget is not None and step.reserves > job.budget:
            raise self.over_budget(job)
        if change.fan_out and sum(_named(need) * count for need, count in needs.items()) > MAX_FAN_OUT_BYTES:
            message = (
                f"the {len(change.tasks)} tasks of state {job.current_state!r} have over {MAX_FAN_OUT_BYTES} "
                "characters of allowed skills and required hardware in total, so nothing was dispatched; name less "
                "of both in each"
            )
            raise TooLarge(message, code=LIMIT_EXCEEDED)
        return Plan(step, needs)

    def _tasks(self, job: Job, change: Change) -> Iterator[NewTask]:
        """The tasks of a step, each made when it is asked for."""
        what, trace, waiting = _Params(), change.trace or job.trace, change.job.waiting
        # How a branch ends its aggregator sees, whatever it says; its job goes on by none of it.
        statuses = () if waiting is None or change.fan_out else own_statuses(waiting.transitions)
        return (self._new_task(job, spec, trace, statuses, what) for spec in change.tasks)

    def _new_task(self, job: Job, spec: TaskSpec, trace: str, statuses: tuple[str, ...], what: _Params) -> NewTask:
        # Who does one that says nothing of what it may cost is not known yet, nor so what that will be.
        max_cost = job.budget if spec.max_cost is None else spec.max_cost
        what.spec = spec
        # In the order of its fields: so many names take longer to match than all the rest.
        return NewTask(
            spec.id,
            spec.index,
            self._needs.of(spec.skill, spec.params, spec.allowed_skills, max_cost, statuses, spec.wants),
            encode(spec.params, self._max_payload, what),
            spec.priority,
            spec.execution_timeout,
            spec.dispatch_timeout,
            spec.result_timeout,
            spec.retry,
            trace,
            spec.lost_after,
            0 if job.budget is None else spec.max_cost,
        )

    def over_budget(self, job: Job, kept: int = 0) -> TooLarge:
        """Why a step of a job with a budget sends nothing.

        Arguments:
            kept: what the budget keeps for lost attempts, where it would cover the step without that.
        """
        lost = f" {kept} of it is reserved for lost attempts." if kept else ""
        message = (
            f"cost: the tasks of state {job.current_state!r} may cost more than is left of the job's budget of "
            f"{job.budget}, so nothing was dispatched.{lost} Give the tasks a lower max_cost, or the job, or the "
            "task above it, a higher budget"
        )
        return TooLarge(message, code=LIMIT_EXCEEDED, retry_after=RETRY_S if kept else None)


def _named(need: Need) -> int:
    return sum(map(len, need.allowed_skills or ())) + len(need.resources) + len(need.hint)
