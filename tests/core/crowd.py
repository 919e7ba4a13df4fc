"""A crowd at a store: every call that changes it, many in one batch, whatever became of the ones before.

The contract suite's model makes one call after another and knows what each must answer. Here nobody does: what is sent
may be late, repeated, or of a job that is deleted. What must hold is that the store agrees with itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Job, Status
from holon.domain.task import CANCELLED, FAILURE, SUCCESS, Outcome, TaskError
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import (
    Accept,
    Claim,
    Creation,
    Handback,
    LeaseRef,
    NewJob,
    Note,
    Offer,
    Opening,
    Progress,
    Put,
    Quota,
    Result,
    Seat,
    Step,
    Touch,
)
from tests.contract.program import Handlers, Program, a_program
from tests.contract.steps import unclaimed, with_step
from tests.contract.world import T, U, World
from tests.core.faults import Faults, FaultyStorage, settled

WORKERS = ("w1", "w2", "w3")
KIND = "crowd"
# What each does, and how often.
CALLS = {
    "create": 3,
    "cancel": 1,
    "release": 1,
    "commit": 12,
    "open_session": 2,
    "close_session": 1,
    "lease": 5,
    "touch": 6,
    "complete": 8,
    "fire": 4,
    "spawn": 1,
    "rekey": 1,
    "put": 1,
    "purge": 2,
    "move": 2,
    "read": 3,
}


class Crowd:
    """Nodes, workers and clients of one store; `act` has some of them call together, in one batch or a few."""

    def __init__(self, world: World, faults: Faults, seed: int) -> None:
        self.world = world
        self.faults = faults
        self.random = random.Random(seed)
        self.handlers = Handlers(world, self.random)
        self.programs: dict[str, Program] = {}
        self.claims: dict[str, Claim] = {}
        self.offers: list[Offer] = []
        self.sessions: dict[str, str] = {}
        self.steps: list[Step] = []
        self.spawns: list[tuple[str, int]] = []
        # A node has one mover.
        self.moving = asyncio.Lock()

    @property
    def store(self) -> FaultyStorage:
        assert isinstance(self.world.storage, FaultyStorage)
        return self.world.storage

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    async def act(self) -> None:
        """Some calls at a time, then perhaps some time; what could not be written did not happen."""
        self.store.run_jobs(self.random.randint(0, 8), self.begin)
        names = self.random.choices([*CALLS], [*CALLS.values()], k=self.random.choice((1, 2, 4, 8, 16)))
        self.faults.go_on.clear()
        calls = [asyncio.create_task(getattr(self, name)()) for name in names]
        await settled()
        self.faults.go_on.set()
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            if failure is not None and not isinstance(failure, StoreUnavailable):
                raise failure
        if self.chance(0.3):
            self.world.clock.advance(self.random.choice((100, 1_000, 4_000, 9_000, 31_000)))

    def seats(self) -> list[Seat]:
        some = self.random.sample(sorted(self.sessions.items()), min(2, len(self.sessions)))
        only = frozenset(self.random.choice(((), (T.key,))))
        prices = self.random.choice(({}, {T.key: 10, U.key: 25}))
        return [Seat(*one, self.random.randint(0, 5), (T.key, U.key), only, prices) for one in some]

    def begin(self, claim: Claim) -> None:
        self.claims[claim.job.id] = claim

    def got(self, offers: Sequence[Offer]) -> None:
        self.offers = [*self.offers, *offers][-60:]

    def some_jobs(self, most: int) -> list[str]:
        return self.random.sample([*self.programs], min(most, len(self.programs)))

    # Clients ------------------------------------------------------------------------------------------------------

    async def create(self) -> None:
        items = [self._new_job() for _ in range(self.random.randint(1, 3))]
        made = await self.store.create_jobs(items, self.seats())
        self.got(made.leased.offers)
        for item, (job_id, what) in zip(items, made.jobs, strict=True):
            if what is not Creation.CREATED:
                self.programs.pop(item.job.id, None)
            assert what is not Creation.EXISTING or job_id == item.job.id

    def _new_job(self) -> NewJob:
        pick = self.random.choice
        if self.chance(0.3):
            new = with_step(self.world, pick((Status.WAITING_FOR_WORKER, Status.RUNNING, Status.FINISHED)))
            program: Program = [("task", 1, 0)]
        else:
            budget = pick((None, None, 0, 40, 100))
            # The first step leaves a state that is small.
            state = {"trace": [], "large": "x" * pick((0, 2_000))}
            job = Job(self.world.job_id("ann"), "bp", "ann", {}, "0", state_history=state, budget=budget)
            new = NewJob(job, (HistoryEvent("job_created", self.world.now),))
            program = a_program(self.random)
        self.programs[new.job.id] = program
        new = replace(new, request_id=new.job.id, request_digest=b"digest")
        if self.chance(0.2):
            new = replace(new, quota=Quota(pick("ab"), 2, "period", self.world.now + 9_000))
        if self.chance(0.1):
            new = replace(new, note=Note(KIND, Put(pick("ab"), pick((b"x", None)), pick((0, 0, 5)), 4_000)))
        return new

    async def cancel(self) -> None:
        for job in self.some_jobs(1):
            event, key = CancelRequested("ann", self.chance(0.3)), self.random.choice(("", "request"))
            await self.store.append(job, event, self.world.unique(), key)

    async def read(self) -> None:
        for job in self.some_jobs(3):
            await self.store.job(job)

    # Nodes --------------------------------------------------------------------------------------------------------

    async def release(self) -> None:
        if self.claims:
            claim = self.claims.pop(self.random.choice([*self.claims]))
            await self.store.release(claim, counted=self.chance(0.5))

    async def commit(self) -> None:
        if self.steps and self.chance(0.15):
            step = self.random.choice(self.steps)
        elif self.claims:
            claim = self.claims.pop(self.random.choice([*self.claims]))
            decided = self._decided(claim)
            if decided is None:
                await self.store.release(claim)
                return
            step = replace(decided, end_tasks=decided.end_tasks or self.chance(0.1))
            self.steps = [*self.steps, step][-10:]
        else:
            return
        done = await self.store.commit(step, self.seats())
        self.got(done.leased.offers)
        if step.keep and not done.conflict and not step.job.status.terminal:
            self.claims[step.job.id] = Claim(step.job, step.claim_id, done.events, 1)

    def _decided(self, claim: Claim) -> Step | None:
        at, program = claim.job.current_state, self.programs[claim.job.id]
        waits = claim.job.waiting
        told = [event for _, event in claim.events if not isinstance(event, CancelRequested)]
        stale = told and (waits is None or waits.step != getattr(told[0], "step", None))
        if not at.isdecimal() or int(at) > len(program) or stale:
            return self.world.step(claim, Status.FAILED, end_tasks=True)
        return self.handlers.step(program, claim)

    async def fire(self) -> None:
        fired = await self.store.fire(self.random.choice((1, 1_000)))
        self.spawns += fired.spawns

    async def spawn(self) -> None:
        for job, step in self.spawns[-2:]:
            await self.store.spawn(job, step)

    async def rekey(self) -> None:
        need, other = self.random.choice(((T, U), (U, T)))
        waiting = await self.store.queued_tasks(need.key, "", 3)
        await self.store.rekey([(record.id, other) for record in waiting])

    async def put(self) -> None:
        known = {one.key: one.version for one in await self.store.documents(KIND)}
        pick = self.random.choice
        puts = [Put(key, pick((b"x", None)), pick((0, known.get(key, 0))), pick((None, 3_000))) for key in "abcab"]
        await self.store.put_documents(KIND, puts)

    async def purge(self) -> None:
        before = self.world.now - self.random.choice((-1, 5_000))
        await self.store.purge(before, self.random.choice((1, 5, 100)), self.some_jobs(3))

    async def move(self) -> None:
        async with self.moving:
            notices = await self.store.take(self.random.randint(1, 20))
            await self.store.settle([notice.id for notice in notices])

    # Workers ------------------------------------------------------------------------------------------------------

    async def open_session(self) -> None:
        worker, session = self.random.choice(WORKERS), self.world.unique("session-")
        held = [(one.task_id, one.lease_id) for one in self.offers if one.worker_id == worker and self.chance(0.7)]
        lease, execution = self.random.choice((None, 3_000, 50_000)), self.random.choice((None, 20_000))
        opening = Opening(worker, session, self.random.randint(1, 6), tuple(dict.fromkeys(held)), lease, execution)
        opened = await self.store.open_session(opening)
        self.sessions[worker] = session
        self.got(opened.kept)

    async def close_session(self) -> None:
        if self.sessions:
            worker = self.random.choice([*self.sessions])
            await self.store.close_session(worker, self.sessions.pop(worker))

    async def lease(self) -> None:
        self.got((await self.store.lease(self.seats())).offers)

    async def touch(self) -> None:
        live = [one for one in self.offers if one.worker_id in self.sessions]
        some = self.random.sample(live, min(6, len(live)))
        refs = [LeaseRef(one.worker_id, self.sessions[one.worker_id], one.task_id, one.lease_id) for one in some]
        pick = self.random.choice
        touch = Touch(
            accepts=tuple(Accept(ref, pick((0, 500))) for ref in refs if self.chance(0.6)),
            extends=tuple(ref for ref in refs if self.chance(0.5)),
            handbacks=tuple(self._handback(ref) for ref in refs if self.chance(0.2)),
            progress=tuple(
                Progress(ref, pick((None, 12.5, 50.0)), pick((None, "", "half"))) for ref in refs if self.chance(0.5)
            ),
            credits=tuple((*one, self.random.randint(1, 6)) for one in self.sessions.items() if self.chance(0.2)),
        )
        touched = await self.store.touch(touch, self.seats())
        self.got(touched.leased.offers)

    def _handback(self, ref: LeaseRef) -> Handback:
        pick = self.random.choice
        return Handback(
            ref, pick((None, 0, 1, 700, 10**15)), pick((None, 0, 3, 30)), self.chance(0.3), self.chance(0.2)
        )

    async def complete(self) -> None:
        if not self.offers:
            return
        first = self.random.choice(self.offers)
        others = [one for one in self.offers if one.worker_id == first.worker_id and self.chance(0.5)]
        results = [self._result(one) for one in (first, *others)]
        worker = first.worker_id if self.chance(0.9) else self.random.choice(WORKERS)
        done = await self.store.complete(results, worker, self.seats())
        self.got(done.leased.offers)

    def _result(self, offer: Offer) -> Result:
        status = self.random.choice((SUCCESS, SUCCESS, SUCCESS, FAILURE, CANCELLED))
        error = TaskError("TRANSIENT_ERROR", "it broke") if status == FAILURE else None
        after = self.random.randint(0, 3_000) if status == FAILURE and self.chance(0.7) else None
        record = self.store.at_hand(offer.job_id) if self.chance(0.3) else None
        step = None
        if record is not None and not record.job.status.terminal:
            step = unclaimed(self.world, record.job, self.random.choice((Status.RUNNING, Status.FINISHED)))
        outcome = Outcome(status, b"{}", error, offer.worker_id)
        cost = self.random.choice((None, 0, 3, 30))
        return Result(offer.task_id, offer.lease_id, outcome, after, self.random.choice((None, 5)), step, cost)
