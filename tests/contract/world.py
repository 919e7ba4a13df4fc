"""One store under a manual clock, and the words in which the contract suite speaks to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from holon.clock import ManualClock
from holon.domain.events import CancelRequested, HistoryEvent, InboxEvent
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.matching import Need
from holon.domain.task import SUCCESS, Outcome, RetryPolicy, task_id
from holon.domain.value import replace
from holon.ports import (
    Accept,
    Appended,
    Claim,
    Committed,
    Fired,
    Handback,
    JobRecord,
    LeaseRef,
    NewFanOut,
    NewJob,
    NewTask,
    Offer,
    Opened,
    Opening,
    Result,
    Seat,
    Step,
    Stop,
    Storage,
    StoreSettings,
    Superseded,
    TaskRecord,
    Touch,
    Touched,
)
from tests.claims import claimed
from tests.contract.backends import Backend, kept, quota_used

Factory = Callable[..., Awaitable["World"]]

T = Need("t")
U = Need("u")
OK = Outcome(SUCCESS, b'{"n":1}', worker_id="w1")
BROKEN = Outcome.failed("TRANSIENT_ERROR", "it broke", "w1")
ONE_SECOND = RetryPolicy(max_retries=3, first_ms=1_000, longest_ms=1_000)


@dataclass(frozen=True)
class Hand:
    """A worker's session, as the node that holds its stream speaks for it."""

    worker_id: str
    session_id: str

    def seat(self, n: int = 1, *needs: Need, only: Sequence[Need] = (), price: int | None = None) -> Seat:
        """Room for `n` tasks of these needs (T and U, when none are given); nobody else could do those of `only`."""
        keys = tuple(need.key for need in needs or (T, U))
        prices = {} if price is None else dict.fromkeys(keys, price)
        return Seat(self.worker_id, self.session_id, n, keys, frozenset(need.key for need in only), prices)

    def ref(self, offer: Offer) -> LeaseRef:
        """An offer's lease, named by this session."""
        return LeaseRef(self.worker_id, self.session_id, offer.task_id, offer.lease_id)


class World:
    """One store. `restart` leaves it as SIGKILL would and opens what is left."""

    def __init__(self, backend: Backend, place: Path, settings: dict[str, int]) -> None:
        # In 2033: a store with a server goes on from the server's time, which must not be ahead.
        self.clock = ManualClock(2_000_000_000_000)
        self.settings = StoreSettings("node-1", **settings)
        self.storage: Storage
        self._backend = backend
        self._place = place
        self._opened = AsyncExitStack()
        self._made = 0
        self._claims: dict[str, Claim] = {}

    async def open(self) -> None:
        self.storage = await self._opened.enter_async_context(
            self._backend.open(self._place, self.settings, self.clock)
        )

    async def close(self) -> None:
        await self._opened.aclose()

    async def kept(self) -> dict[str, int]:
        """How much the store keeps of workers, of queues and, when they are many, of timers."""
        return await kept(self.storage)

    async def quota_used(self, key: str, period: str) -> int:
        """How many jobs were counted against a quota in this period."""
        return await quota_used(self.storage, key, period)

    async def restart(self, clock: ManualClock | None = None) -> None:
        """Go on with what a kill at this moment leaves; the claims that this world took are forgotten."""
        self.clock = clock or ManualClock(self.clock.now_ms())
        self._place = self._backend.killed(self._place)
        self._claims.clear()
        await self.open()

    @property
    def now(self) -> int:
        return self.storage.now()

    def unique(self, what: str = "") -> str:
        """A name used once, whose order says nothing."""
        self._made += 1
        return what + blake2b(f"{what}{self._made}".encode(), digest_size=8).hexdigest()

    # Jobs ---------------------------------------------------------------------------------------------------------

    def new_job(
        self,
        *,
        owner: str = "ann",
        blueprint: str = "bp",
        request_id: str | None = None,
        digest: bytes = b"",
        data: dict[str, Any] | None = None,
        budget: int | None = None,
        webhook: str = "",
    ) -> NewJob:
        job_id = self.job_id(owner, request_id)
        job = Job(job_id, blueprint, owner, data or {}, "start", budget=budget, webhook=webhook)
        return NewJob(job, (HistoryEvent("job_created", self.now, "start"),), request_id, digest)

    def job_id(self, owner: str, request_id: str | None = None) -> str:
        """The id of a new job, in any shard."""
        name = self.unique()
        if request_id is None:
            return f"{int(name, 16) % self._backend.shards}-{name}"
        return f"{self.storage.new_job_id(owner, request_id).partition('-')[0]}-{name}"

    async def create(self, **fields: Any) -> str:
        """The id of a new job that waits for a claim."""
        return (await self.storage.create_jobs([self.new_job(**fields)])).jobs[0][0]

    async def claim_of(self, job_id: str) -> Claim:
        """The claim of a job that is ready (other jobs that are ready are claimed as well, and kept at hand)."""
        if job_id not in self._claims:
            await self.ready()
            assert job_id in self._claims, f"job {job_id} is not ready"
        return self._claims.pop(job_id)

    async def start(self, **fields: Any) -> Claim:
        """A new job, claimed."""
        return await self.claim_of(await self.create(**fields))

    async def ready(self) -> list[str]:
        """The jobs that are ready now, claimed, in the order in which they are handed over."""
        claims = await claimed(self.storage)
        self._claims |= {claim.job.id: claim for claim in claims}
        return [claim.job.id for claim in claims]

    async def release(self, claim: Claim, *, counted: bool = False) -> None:
        await self.storage.release(claim, counted=counted)

    async def append(self, job_id: str, event: InboxEvent, key: str | None = None) -> Appended:
        """Put an event into an inbox, claiming nothing."""
        return await self.storage.append(job_id, event, key or self.unique())

    async def record(self, job_id: str) -> JobRecord:
        record = await self.storage.job(job_id)
        assert record is not None, f"job {job_id} does not exist"
        return record

    async def told(self, job_id: str) -> list[HistoryEvent]:
        """A job's history, whose numbers must have no gap."""
        lines = list(await self.storage.history(job_id, 0, 10_000))
        assert [number for number, _ in lines] == list(range(1, len(lines) + 1))
        return [event for _, event in lines]

    # Steps --------------------------------------------------------------------------------------------------------

    def step(self, claim: Claim, status: Status = Status.RUNNING, **fields: Any) -> Step:
        """A step that consumes what the claim carries, writes one line of history, and ends with this status.

        What it opens (tasks, a timer) bears the number of the claimed job's step; the job's own goes up by one.
        """
        number = claim.job.step
        waiting = {
            Status.WAITING_FOR_WORKER: Waiting(number, {SUCCESS: "next"}),
            Status.WAITING_FOR_PARALLEL: Waiting(number, {}, "gather"),
            Status.WAITING_FOR_RETRY: Waiting(number, {}),
        }.get(status)
        error = JobError("TEST", "as the test says") if status.terminal and status is not Status.FINISHED else None
        job = replace(claim.job, step=number + 1, status=status, waiting=waiting, error=error)
        if any(isinstance(event, CancelRequested) for _, event in claim.events):
            job = replace(job, cancelling=True)
        told = [HistoryEvent("state_finished", self.now, claim.job.current_state)]
        if status.terminal:
            told.append(HistoryEvent("job_completed", self.now, claim.job.current_state))
        given: dict[str, Any] = {
            "claim_id": claim.claim_id,
            "commit_id": self.unique("commit-"),
            "job": job,
            "consumed": tuple(number for number, _ in claim.events),
            "history": tuple(told),
        }
        return Step(**given | fields)

    def task(self, claim: Claim, index: int = 0, need: Need = T, **fields: Any) -> NewTask:
        """A task of the claim's next step."""
        given: dict[str, Any] = {
            "id": task_id(claim.job.id, claim.job.step, index),
            "index": index,
            "need": need,
            "params": b"{}",
            "priority": 0.0,
            "execution_timeout": 300_000,
            "dispatch_timeout": None,
            "result_timeout": None,
            "retry": ONE_SECOND,
        }
        return NewTask(**given | fields)

    async def commit(self, step: Step, seats: Sequence[Seat] = ()) -> Committed:
        return await self.storage.commit(step, seats)

    async def finish(self, claim: Claim) -> Committed:
        """End a job well."""
        return await self.commit(self.step(claim, Status.FINISHED))

    async def dispatch(self, need: Need = T, claim: Claim | None = None, **fields: Any) -> str:
        """The id of the only task of a job, which waits in the backlog."""
        claim = claim or await self.start()
        task = self.task(claim, need=need, **fields)
        done = await self.commit(self.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,)))
        assert not done.conflict
        return task.id

    async def fan_out(
        self, n: int, *, rest: Sequence[int] = (), fail_fast: bool = False, claim: Claim | None = None, **fields: Any
    ) -> list[str]:
        """The ids of a job's branches: `n` of them wait in the backlog, `rest` are in chunks of these sizes."""
        claim = claim or await self.start()
        branches = [self.task(claim, index, **fields) for index in range(n + sum(rest))]
        chunks, at = [], n
        for size in rest:
            chunks.append(tuple(branches[at : at + size]))
            at += size
        fan = NewFanOut(len(branches), fail_fast, tuple(chunks))
        step = self.step(claim, Status.WAITING_FOR_PARALLEL, tasks=tuple(branches[:n]), fan_out=fan)
        assert not (await self.commit(step)).conflict
        return [branch.id for branch in branches]

    # Workers ------------------------------------------------------------------------------------------------------

    async def hand(self, worker_id: str = "w1", credits: int = 1_000, **more: Any) -> Hand:  # noqa: A002
        """A worker's new session, which resumes nothing."""
        return (await self.resume(worker_id, credits=credits, **more))[0]

    async def resume(
        self,
        worker_id: str,
        *offers: Offer,
        credits: int = 1_000,  # noqa: A002
        **more: Any,
    ) -> tuple[Hand, Opened]:
        """A worker's new session, which still holds these leases."""
        session = self.unique("session-")
        held = tuple((offer.task_id, offer.lease_id) for offer in offers)
        opening = Opening(worker_id, session, credits, held, **more)
        return Hand(worker_id, session), await self.storage.open_session(opening)

    async def lease(self, *seats: Seat) -> list[Offer]:
        return list((await self.storage.lease(seats)).offers)

    async def offered(self, hand: Hand, need: Need = T, **fields: Any) -> Offer:
        """A new job's only task, offered to this session."""
        task = await self.dispatch(need, **fields)
        [offer] = await self.lease(hand.seat(1, need))
        assert offer.task_id == task
        return offer

    async def accepted(self, hand: Hand, need: Need = T, **fields: Any) -> Offer:
        """A new job's only task, leased to this session."""
        offer = await self.offered(hand, need, **fields)
        assert (await self.touch(accepts=(hand.ref(offer),))).lost == ()
        return offer

    async def touch(self, *seats: Seat, accepts: Sequence[LeaseRef] = (), **fields: Any) -> Touched:
        """What sessions say, as they say it."""
        return await self.storage.touch(Touch(accepts=tuple(map(Accept, accepts)), **fields), seats)

    async def hand_back(
        self,
        hand: Hand,
        offer: Offer,
        *,
        again_after: int | None = 0,
        cost: int | None = None,
        unbegun: bool = False,
        unheard: bool = False,
        **why: Any,
    ) -> Touched:
        handback = Handback(hand.ref(offer), again_after, cost, unbegun, unheard, **why)
        return await self.touch(handbacks=(handback,))

    async def stops(self) -> list[Stop]:
        """What is to be stopped at this node's sessions."""
        return list((await self.touch()).stops)

    async def complete(
        self, offer: Offer, outcome: Outcome = OK, retry_after: int | None = None, worker_id: str | None = None
    ) -> Superseded | None:
        """Send one result, and the verdict (None: committed)."""
        worker = worker_id or offer.worker_id
        result = Result(offer.task_id, offer.lease_id, replace(outcome, worker_id=worker), retry_after)
        done = await self.storage.complete([result], worker, ())
        return done.verdicts[0]

    async def task_record(self, task: str) -> TaskRecord:
        record = await self.storage.task(task)
        assert record is not None, f"task {task} does not exist"
        return record

    async def waiting(self, need: Need = T) -> int:
        """How many tasks with this need wait for a lease."""
        known = await self.storage.queued(need.skill)
        return known[need.key][1] if need.key in known else 0

    # Time ---------------------------------------------------------------------------------------------------------

    async def fire(self, *, limit: int = 1_000) -> Fired:
        return await self.storage.fire(limit)

    async def after(self, ms: int) -> Fired:
        """Let time pass, and what is due happen."""
        self.clock.advance(ms)
        return await self.fire()
