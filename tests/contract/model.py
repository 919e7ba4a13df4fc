"""The model: nodes and workers that do everything the rules allow, faults included, and what must hold all the while.

Each job runs a little program; its trace, kept in its own state, tells what was applied. Replies are lost after the
call was executed, nodes fall silent with their claims, workers die with their leases, and stores restart.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Job, Status
from holon.domain.task import FAILURE, SUCCESS, Outcome, TaskError, job_of
from holon.domain.value import replace
from holon.ports import (
    Accept,
    Appended,
    Claim,
    Creation,
    Handback,
    LeaseRef,
    NewJob,
    Offer,
    Opening,
    Progress,
    Result,
    Seat,
    Touch,
)
from tests.contract.program import Handlers, Program, a_program
from tests.contract.telling import HOOKS, Telling
from tests.contract.world import T, U, World

WORKERS = ("w1", "w2", "w3")


@dataclass
class Worker:
    """A worker process: its session, the leases that it works on, and the results that nobody acknowledged."""

    worker_id: str
    session_id: str = ""
    credits: int = 0
    held: dict[str, Offer] = field(default_factory=dict)
    unanswered: dict[str, Result] = field(default_factory=dict)

    def ref(self, offer: Offer) -> LeaseRef:
        return LeaseRef(self.worker_id, self.session_id, offer.task_id, offer.lease_id)


class Model:
    """One run: `act` does something at random, and everything that is answered is checked at once."""

    def __init__(self, world: World, seed: int, *, restarts: bool) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.restarts = restarts
        self.faults = True
        self.workers = {name: Worker(name) for name in WORKERS}
        self.handlers = Handlers(world, self.random)
        self.telling = Telling(world, self.random, self.chance)
        self.hooked: set[str] = set()
        self.programs: dict[str, Program] = {}
        self.cancelled: set[str] = set()
        self.held: dict[str, Claim] = {}
        self.silent: list[Claim] = []
        self.newest_claim: dict[str, str] = {}
        self.newest_attempt: dict[str, int] = defaultdict(int)
        self.applied: dict[str, str] = {}
        self.final: dict[str, str] = {}
        self.spawns: set[tuple[str, int]] = set()
        self.said: dict[str, dict[str, int]] = defaultdict(dict)
        self.broke: set[str] = set()

    def chance(self, share: float) -> bool:
        """True this often, as long as there are faults."""
        return self.faults and self.random.random() < share

    async def act(self) -> None:
        """One action of a node, a worker, a client, or time."""
        actions = (
            (2, self.create),
            (1, self.cancel),
            (18, self.run),
            (2, self.run_silent),
            (3, self.open_session),
            (10, self.lease),
            (6, self.touch),
            (16, self.complete),
            (6, self.pass_time),
            (2, self.spawn),
            (1, self.rekey),
            (1, self.release),
            (1, self.restart),
            (4, self.telling.act),
        )
        self.run_jobs(self.random.randint(0, 5))
        [action] = self.random.choices([one for _, one in actions], [weight for weight, _ in actions])
        await action()

    # Clients ------------------------------------------------------------------------------------------------------

    async def create(self) -> None:
        items, programs = [], []
        for _ in range(self.random.randint(1, 2)):
            program = a_program(self.random)
            budget = self.random.choice((None, 0, 40, 100))
            hook = self.random.choice(HOOKS)
            job = Job(self.world.job_id("ann"), "bp", "ann", {}, "0", state_history={"trace": []}, budget=budget)
            job = replace(job, webhook=hook)
            told = (HistoryEvent("job_created", self.world.now),)
            items.append(NewJob(job, told, job.id, b"digest"))
            programs.append(program)
        while self.chance(0.2):
            await self.world.storage.create_jobs(items)
        created = await self.world.storage.create_jobs(items)
        for (job_id, what), item, program in zip(created.jobs, items, programs, strict=True):
            assert job_id == item.job.id
            assert what in (Creation.CREATED, Creation.EXISTING)
            self.programs[job_id] = program
            if item.job.webhook:
                self.hooked.add(job_id)

    async def cancel(self) -> None:
        if not self.programs:
            return
        job = self.random.choice(list(self.programs))
        self.cancelled.add(job)
        key = self.world.unique("cancel-")
        answers = [await self.world.storage.append(job, CancelRequested("ann"), key) for _ in range(2)]
        assert answers[0] in (Appended.APPENDED, Appended.OVER)
        assert answers[1] is (Appended.DUPLICATE if answers[0] is Appended.APPENDED else Appended.OVER)

    # Nodes --------------------------------------------------------------------------------------------------------

    def run_jobs(self, limit: int) -> None:
        """Have jobs begun until so many are claimed."""
        self.world.storage.run_jobs(limit, self.begin)

    def begin(self, claim: Claim) -> None:
        """A job is claimed: nobody else may hold it, and a suspect runs alone."""
        job = claim.job.id
        assert job not in self.held, f"{job} is claimed twice"
        assert claim.deliveries == 1 or not self.held, f"{job} is a suspect and runs beside {[*self.held]}"
        self.newest_claim[job] = claim.claim_id
        self.held[job] = claim

    async def release(self) -> None:
        for job in [job for job in self.held if self.random.random() < 0.5]:
            await self.world.storage.release(self.held.pop(job))

    async def run(self) -> None:
        if not self.held:
            return
        job = self.random.choice(list(self.held))
        claim = self.held.pop(job)
        if self.chance(0.1):
            self.silent.append(claim)
            await self.world.storage.release(claim, counted=True)
            return
        await self.commit(claim)

    async def run_silent(self) -> None:
        """A run that had ended without a word goes on."""
        if self.silent:
            await self.commit(self.silent.pop(self.random.randrange(len(self.silent))))

    async def commit(self, claim: Claim) -> None:
        job = claim.job.id
        step = self.handlers.step(self.programs[job], claim)
        if step is None:
            await self.world.storage.release(claim)
            return
        lost, holds = self.chance(0.2), self.newest_claim[job] == claim.claim_id
        seats = self.seats()
        done = await self.world.storage.commit(step, seats)
        if done.over_budget:
            assert step.reserves > 0
            self.broke.add(job)
            failed = self.handlers.moved(replace(step, job=claim.job, tasks=(), fan_out=None), claim.job, Status.FAILED)
            step = replace(failed, commit_id=self.world.unique("commit-"), end_tasks=True)
            done = await self.world.storage.commit(step, seats)
            assert not done.conflict, f"{job}: its claim was good for the step before"
        if not holds:
            assert done.conflict, f"{job}: a lost claim committed"
        if done.conflict:
            return
        assert (await self.world.record(job)).job == step.job
        if lost:
            again = await self.world.storage.commit(step, seats)
            assert not again.conflict, f"{job}: a repeated commit is a conflict"
            assert again.leased.offers == done.leased.offers
            assert again.events == done.events
            assert (await self.world.record(job)).job == step.job
            done = again
        self.offered(done.leased.offers)
        if step.keep and not step.job.status.terminal:
            self.held[job] = replace(claim, job=step.job, events=done.events, deliveries=1)

    async def spawn(self) -> None:
        if self.spawns:
            job, step = self.random.choice(sorted(self.spawns))
            self.spawns.discard((job, step))
            await self.world.storage.spawn(job, step)

    async def rekey(self) -> None:
        for need, other in ((T, U), (U, T)):
            waiting = await self.world.storage.queued_tasks(need.key, "", 2)
            await self.world.storage.rekey([(record.id, other) for record in waiting])

    async def pass_time(self) -> None:
        self.world.clock.advance(self.random.choice((0, 100, 1_000, 4_000, 9_000)))
        if self.chance(0.1):
            await self.world.fire()
        limit = self.random.choice((1, 1_000))
        fired = await self.world.fire(limit=limit)
        self.spawns |= set(fired.spawns)

    async def restart(self) -> None:
        """The node is killed: its claims, and the sessions of its workers, are over."""
        if self.restarts and self.faults and self.random.random() < 0.5:
            self.silent += self.held.values()
            self.held.clear()
            self.telling.killed()
            await self.world.restart()
            for worker in self.workers.values():
                worker.session_id = ""

    # Workers ------------------------------------------------------------------------------------------------------

    def seats(self) -> list[Seat]:
        """Some sessions, each with room for some tasks; more than their credits, at times."""
        live = [worker for worker in self.workers.values() if worker.session_id]
        self.random.shuffle(live)
        keys = (T.key, U.key)
        prices = {T.key: self.random.choice((0, 3, 25)), U.key: 10}
        return [
            Seat(worker.worker_id, worker.session_id, self.random.randint(0, 4), keys, prices=prices)
            for worker in live[:2]
        ]

    def offered(self, offers: Sequence[Offer]) -> None:
        """Offers come to their sessions: within the credits, and each task under one new lease."""
        for offer in offers:
            worker = self.workers[offer.worker_id]
            self.newest_attempt[offer.task_id] = max(self.newest_attempt[offer.task_id], offer.attempt)
            assert offer.task_id not in self.final, f"{offer.task_id} is leased though it is over"
            if offer.session_id != worker.session_id:
                continue
            worker.held[offer.lease_id] = offer
            assert len(worker.held) <= worker.credits, f"{worker.worker_id} holds more than it granted"

    async def open_session(self) -> None:
        """A worker connects: a process that goes on, or a new one that knows of nothing."""
        worker = self.random.choice(list(self.workers.values()))
        if self.chance(0.3):
            worker.held.clear()
            worker.unanswered.clear()
        worker.session_id = self.world.unique("session-")
        worker.credits = self.random.randint(1, 4)
        resumed = {offer.lease_id: offer.task_id for offer in worker.held.values()}
        resumed |= {result.lease_id: result.task_id for result in worker.unanswered.values()}
        pairs = tuple((task, lease) for lease, task in resumed.items())
        opening = Opening(worker.worker_id, worker.session_id, worker.credits, pairs)
        if self.chance(0.2):
            await self.world.storage.open_session(opening)
        opened = await self.world.storage.open_session(opening)
        kept = {offer.lease_id: offer for offer in opened.kept}
        assert kept.keys() | {lease for _, lease, _ in opened.dropped} == resumed.keys()
        assert all(self.newest_attempt[offer.task_id] <= offer.attempt for offer in kept.values())
        worker.held = {lease: offer for lease, offer in kept.items() if lease not in worker.unanswered}
        if self.chance(0.2):
            await self.world.storage.close_session(worker.worker_id, worker.session_id)
            worker.session_id = ""

    async def lease(self) -> None:
        seats = self.seats()
        if self.chance(0.1):
            await self.world.storage.lease(seats)
        else:
            self.offered((await self.world.storage.lease(seats)).offers)

    async def touch(self) -> None:
        """A worker says what it holds, gives some back, and changes its credits."""
        worker = self.random.choice(list(self.workers.values()))
        if not worker.session_id:
            return
        refs = [worker.ref(offer) for offer in worker.held.values()]
        back = [ref for ref in refs if self.random.random() < 0.15]
        rest = tuple(ref for ref in refs if ref not in back)
        worker.credits = self.random.randint(1, 4) if self.chance(0.2) else worker.credits
        touch = Touch(
            accepts=tuple(Accept(ref) for ref in rest),
            extends=tuple(ref for ref in rest if self.random.random() < 0.8),
            handbacks=tuple(self.handback(ref) for ref in back),
            progress=tuple(Progress(ref, self.random.random() * 100, self.random.choice((None, ""))) for ref in rest),
            credits=((worker.worker_id, worker.session_id, worker.credits),),
        )
        for ref in back:
            del worker.held[ref.lease_id]
        if self.chance(0.2):
            await self.world.storage.touch(touch, ())
        touched = await self.world.storage.touch(touch, ())
        assert not {ref for ref in touched.lost if ref.lease_id not in worker.held}
        for ref in touched.lost:
            # Told to stop; its final word is a result that nobody wants.
            await self.send(worker, Result(ref.task_id, ref.lease_id, self.outcome(worker)))

    def handback(self, ref: LeaseRef) -> Handback:
        cost = self.random.choice((None, 0, 3, 10, 30))
        self.said[job_of(ref.task_id)].setdefault(ref.lease_id, cost or 0)
        return Handback(ref, self.random.choice((None, 0, 1, 700, 10**15)), cost, self.chance(0.3))

    async def complete(self) -> None:
        """A worker sends a result: a new one, or one that was not acknowledged."""
        worker = self.random.choice(list(self.workers.values()))
        if worker.unanswered and self.random.random() < 0.5:
            await self.send(worker, self.random.choice(list(worker.unanswered.values())))
        elif worker.held:
            offer = self.random.choice(list(worker.held.values()))
            outcome = self.outcome(worker)
            again = outcome.status == FAILURE and offer.generation <= offer.retry.max_retries
            after = self.random.randint(0, 3_000) if again else None
            cost = self.random.choice((0, 3, 10, 30))
            await self.send(worker, Result(offer.task_id, offer.lease_id, outcome, after, cost=cost))

    def outcome(self, worker: Worker) -> Outcome:
        if self.chance(0.3):
            return Outcome(FAILURE, error=TaskError("TRANSIENT_ERROR", "it broke"), worker_id=worker.worker_id)
        return Outcome(SUCCESS, b"{}", worker_id=worker.worker_id)

    async def charged(self, result: Result) -> None:
        """No job is charged more than its budget, or what was said of its leases, each once."""
        job = job_of(result.task_id)
        self.said[job].setdefault(result.lease_id, 25 if result.cost is None else result.cost)
        record = await self.world.record(job)
        assert (record.cost or 0) <= sum(self.said[job].values()), f"{job}: a lease is charged twice"
        if record.job.budget is not None:
            assert (record.cost or 0) <= record.job.budget, f"{job}: its budget is overspent"

    async def send(self, worker: Worker, result: Result) -> None:
        task, lease = result.task_id, result.lease_id
        offer = worker.held.pop(lease, None)
        stale = offer is not None and self.newest_attempt[task] > offer.attempt
        lost = self.chance(0.2)
        seats = [] if lost else self.seats()
        done = await self.world.storage.complete([result], worker.worker_id, seats)
        verdict = done.verdicts[0]
        await self.charged(result)
        if verdict is None:
            assert not stale, f"{task}: a result under an earlier lease was applied"
            self.applied[task] = lease
            if result.retry_after is None:
                assert self.final.setdefault(task, lease) == lease, f"{task}: two outcomes were applied"
        elif lease == self.applied.get(task):
            raise AssertionError(f"{task}: a committed result is answered {verdict}")
        if lost:
            worker.unanswered[lease] = result
            return
        worker.unanswered.pop(lease, None)
        self.offered(done.leased.offers)
