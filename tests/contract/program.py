"""The little programs that the model's jobs run, and what a handler of them decides."""

from __future__ import annotations

import random

from holon.domain.events import ApprovalResolved, BranchesDone, CancelRequested, HistoryEvent, TaskEnded, Woken
from holon.domain.job import Job, Status, Waiting
from holon.domain.signals import Signal
from holon.domain.task import RetryPolicy, task_id
from holon.domain.value import replace
from holon.ports import Claim, NewFanOut, NewTask, Step
from tests.contract.world import T, U, World

Program = list[tuple[str, int, int]]

# Each instruction: what it does, and how many tasks in how large chunks.
INSTRUCTIONS = (("go", 0, 0), ("task", 1, 0), ("sleep", 0, 0), ("fan", 4, 4), ("fast", 3, 3), ("fan", 7, 3))


def a_program(chance: random.Random) -> Program:
    """One to four instructions."""
    return [chance.choice(INSTRUCTIONS) for _ in range(chance.randint(1, 4))]


class Handlers:
    """Decides what a claimed job does next. Its current state is the place in its program."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.random = chance

    def step(self, program: Program, claim: Claim) -> Step | None:
        """What the job's program decides; None when there is nothing to do."""
        job = claim.job
        at = int(job.current_state)
        number, event = claim.events[0] if claim.events else (0, None)
        for other, one in claim.events:
            if isinstance(one, CancelRequested):
                number, event = other, one
        given = Step(claim.claim_id, self.world.unique("commit-"), job, keep=self.random.random() < 0.5)
        if claim.deliveries > self.world.settings.max_deliveries:
            return self.moved(given, job, Status.QUARANTINED)
        if isinstance(event, CancelRequested):
            return replace(self.moved(given, job, Status.CANCELLED), consumed=(number,), end_tasks=True)
        if job.status.due:
            if at == len(program):
                return self.moved(given, job, Status.FINISHED)
            return self.decided(given, job, *program[at])
        if event is None:
            return None
        assert job.waiting is not None
        assert not isinstance(event, ApprovalResolved | Signal)
        assert job.waiting.step == event.step, f"{job.id}: a stale event"
        failed_fast = isinstance(event, BranchesDone) and event.fail_fast
        if not failed_fast:
            job = replace(job, state_history={"trace": [*job.state_history["trace"], self.kind(event)]})
            job = replace(job, current_state=str(at + 1), waiting=None)
        step = self.moved(given, job, Status.FAILED if failed_fast else Status.RUNNING)
        return replace(step, consumed=(number,), end_tasks=failed_fast)

    def kind(self, event: object) -> str:
        kinds: dict[type, str] = {TaskEnded: "task", BranchesDone: "fan", Woken: "sleep"}
        return kinds[type(event)]

    def moved(self, given: Step, job: Job, status: Status) -> Step:
        told = [HistoryEvent("state_finished", self.world.now)]
        if status.terminal:
            told.append(HistoryEvent("job_completed", self.world.now, details={"status": str(status)}))
        return replace(given, job=replace(job, step=given.job.step + 1, status=status), history=tuple(told))

    def decided(self, given: Step, job: Job, what: str, count: int, chunk: int) -> Step:
        if what == "go":
            trace = [*job.state_history["trace"], "go"]
            moved = replace(job, state_history={"trace": trace}, current_state=str(int(job.current_state) + 1))
            return self.moved(given, moved, Status.RUNNING)
        waits = replace(job, waiting=Waiting(job.step, {}, None if what in ("task", "sleep") else "gather"))
        if what == "sleep":
            step = self.moved(given, waits, Status.WAITING_FOR_RETRY)
            return replace(step, wake_after=self.random.randint(0, 20_000), keep=False)
        tasks = tuple(self.task(job, index) for index in range(count))
        if what == "task":
            return replace(self.moved(given, waits, Status.WAITING_FOR_WORKER), tasks=tasks, keep=False)
        rest = tuple(tasks[at : at + chunk] for at in range(chunk, count, chunk))
        fan = NewFanOut(count, what == "fast", rest)
        step = self.moved(given, waits, Status.WAITING_FOR_PARALLEL)
        return replace(step, tasks=tasks[:chunk], fan_out=fan, keep=False)

    def task(self, job: Job, index: int) -> NewTask:
        pick = self.random.choice
        return NewTask(
            id=task_id(job.id, job.step, index),
            index=index,
            need=pick((T, U)),
            params=b"{}",
            priority=pick((0.0, 0.0, 1.0)),
            execution_timeout=pick((15_000, 300_000)),
            dispatch_timeout=pick((None, None, 60_000)),
            result_timeout=pick((None, None, 90_000)),
            retry=RetryPolicy(2, 1_000, 5_000),
            reserves=0 if job.budget is None else pick((None, 0, 1, 10, 25)),
        )
