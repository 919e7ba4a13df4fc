"""What the engine needs of the world: the store, its records, and the live connections of workers.

The store's operations are atomic, durable before they return, and safe to repeat when a reply was lost. Times are
epoch milliseconds of the store's clock; durations are milliseconds. Those that make work, or free a worker, take
`seats`, and lease the heads of the backlog to them.

Every operation raises `StoreUnavailable` when nothing of it happened or its reply was lost. A cancel comes
before a call or after its reply, never between: what a call hands over is not lost because its caller is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.domain.value import Value
from holon.ports.jobs import Appended, Claim, Committed, Completed, Created, Fired, NewJob, Result, Step
from holon.ports.outbox import Outbox
from holon.ports.reads import Counts, JobFilter, JobRecord, TaskRecord
from holon.ports.shared import Shared
from holon.ports.tasks import Leased, Opened, Opening, Seat, Touch, Touched

# What sessions say that needs no answer of its own, as that they accept an offer, reaches the store within so many
# milliseconds.
SAID_WITHIN = 1_000


class StoreSettings(Value):
    """What every backend is built with: who this node is, and its durations (milliseconds) and limits.

    `execution` is how long a worker may execute a task that names no time of its own.
    `lease` is how long a worker may be silent before its tasks go to others, `offer` how long it may leave an offer
    unanswered. A job is quarantined at its delivery after
    `max_deliveries`; a task after `max_losses` sessions that ended under it. `history_backlog` is how many bytes of
    history may wait to be moved to a database of its own before new jobs are refused; None: it stays in the store.
    """

    node_id: str
    lease: int = 30_000
    offer: int = 5_000
    execution: int = 300_000
    max_deliveries: int = 5
    max_losses: int = 10
    max_inbox: int = 1_000
    max_state_bytes: int = 2**20
    max_fan_in_bytes: int = 64 * 2**20
    history_backlog: int | None = None


class Hint(Value):
    """That something may be worth a call. A hint can be lost or late: it is never the truth.

    `stops`: a stop is due. `due`: the earliest timer is now at this time.
    `keys`: match keys with tasks that wait for a lease. `spawns`: fan-outs whose next chunk is to be spawned.
    `jobs`: watched jobs that changed, or whose tasks did. `notices`: history waits to be moved. `documents`: kinds of
    which a document changed. `said`: what another node passed on of watched jobs; this is all there is of it. `ends`: a
    job whose end is to be told has ended in a call of this node; others look for that every now and then. `events`: the
    same of events that are to be told.
    """

    stops: bool = False
    due: int | None = None
    keys: frozenset[str] = frozenset()
    spawns: frozenset[tuple[str, int]] = frozenset()
    jobs: frozenset[str] = frozenset()
    notices: bool = False
    documents: frozenset[str] = frozenset()
    ends: bool = False
    said: tuple[tuple[str, bytes], ...] = ()
    events: bool = False


class Steps(Protocol):
    """The part of the store that runs jobs."""

    def new_job_id(self, owner: str, request_id: str | None = None) -> str:
        """An id for a new job. It says where in the store the job is: for one request always at the same place."""
        ...

    async def create_jobs(self, items: Sequence[NewJob], seats: Sequence[Seat] = ()) -> Created:
        """Create jobs, all or none of those at one place; a repeat of a request id answers with the job that it made.

        What has used up its quota is answered so, and not made; that does not keep the others from being made. A job
        that is made has been counted. One that was counted may not be made, if the call fails or the node dies, or if
        another call makes the job of the same request at the same time.

        Arguments:
            items: their jobs have ids that `new_job_id` made, for the same owners and request ids.
        Raises:
            ResourceExhausted: (HISTORY_BACKLOG) too much history waits to be moved; nothing was created.
                (TOO_MANY_DOCUMENTS) there is no room for a note.
            TooLarge: (LIMIT_EXCEEDED) a note is over the limit of a document.
            StoreUnavailable: some jobs may be made, some notes written and some jobs counted.
        """
        ...

    async def made(self, owner: str, request_id: str) -> tuple[str, bytes] | None:
        """The job that an earlier call made for this request id, and that request's digest; None: there is none."""
        ...

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        request_key: str = "",
        most: int | None = None,
    ) -> Appended:
        """Put an event into a job's inbox; the same key is put in once.

        Arguments:
            request_key: names the caller's wish: its repeat is a duplicate whatever the key is by then. It is
                remembered too where the key was there already.
            most: for this event the inbox is full with so many; None: with `max_inbox`. 0: it takes none, and only says
                whether this is a repeat.
        """
        ...

    def run_jobs(self, limit: int, begin: Callable[[Claim], object]) -> None:
        """Claim jobs that are ready, from now on, while fewer than `limit` are claimed; those ready longest come first.

        A claim lasts until a commit that does not keep it, or `release`, or until this node loses the job. It does not
        outlive the process.

        Arguments:
            limit: 0: no job is claimed any more.
            begin: called with each claim once it is stored, on the event loop; it neither waits nor raises.
        """
        ...

    async def release(self, claim: Claim, *, counted: bool = False) -> None:
        """Give a claim back without a commit: nothing was decided, and the job is ready again.

        Arguments:
            counted: whether this was a delivery all the same; a job is quarantined after `max_deliveries`.
        """
        ...

    async def commit(self, step: Step, seats: Sequence[Seat]) -> Committed:
        """Write a step: the job's new state and all its effects together, under its claim, or nothing."""
        ...

    async def spawn(self, job_id: str, step: int) -> None:
        """Turn the next chunk of a large fan-out into tasks, if fewer than 100 of them wait for a lease.

        They are hinted at, and leased by the calls that take seats.
        """
        ...

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        """The outcomes of a fan-out's branches, in order of index; those without one are left out."""
        ...


class Leases(Protocol):
    """The part of the store that hands tasks to workers."""

    async def open_session(self, opening: Opening) -> Opened:
        """Make a session its worker's current one; leases that it does not resume go back to the queue at once.

        A live session of a higher proof is not replaced: the reply is `outranked`.
        """
        ...

    async def close_session(self, worker_id: str, session_id: str) -> None:
        """A session has ended; its leases live on until their own deadline, so that the worker can resume them."""
        ...

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        """Lease the heads of the backlog, by priority, then arrival, within the workers' credits."""
        ...

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        """Take a batch of what sessions said; answers with the stops that are due."""
        ...

    async def complete(self, results: Sequence[Result], worker_id: str, seats: Sequence[Seat]) -> Completed:
        """Apply results, each at most once and only under its task's current lease, held by this worker."""
        ...

    async def fire(self, limit: int) -> Fired:
        """Do what is due, at most `limit` timers.

        Tasks that wait again by it are hinted at, and leased by the calls that take seats.
        """
        ...

    async def task(self, task_id: str) -> TaskRecord | None:
        """One task."""
        ...

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        """The match keys of a skill that have waiting tasks: what each needs, and how many wait."""
        ...

    async def needs(self, keys: Collection[str] | None = None) -> Mapping[str, Need]:
        """The match keys that have waiting tasks, and what each needs.

        Arguments:
            keys: of these alone; None: of all.
        """
        ...

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        """The next waiting tasks of a match key, in an order of the store's own, for a new contract to be tried on.

        Arguments:
            after: the id of the last one of the page before; empty: from the first on. Those that came to wait since
                that page was read may be missed.
        """
        ...

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        """Give waiting tasks a new need, and with it a new place in the backlog, under their old arrival."""
        ...

    async def end_queued(self, key: str, ends: Sequence[tuple[str, Outcome]]) -> None:
        """End waiting tasks with a failure each, by their ids; those that wait no longer behind this match key stay."""
        ...


class Reads(Protocol):
    """What looks at the store and changes nothing."""

    async def job(self, job_id: str) -> JobRecord | None:
        """One job."""
        ...

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        """A page of jobs, newest first, and the arrival number to go on from (None: that was all).

        It ends at `limit` jobs, or before their states have more than MAX_PAGE_BYTES together.
        """
        ...

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        """The first ids, in order, of an owner's jobs that begin with a prefix.

        Arguments:
            prefix: the beginning of an id of `new_job_id`, with one digit of its time at least. A store may pass over a
                job that was created more than a minute after the time in its id.
        """
        ...

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        """A page of a job's history, with sequence numbers from 1, after the one given; without what was moved."""
        ...

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        """What waits in a job's inbox, in order of arrival; nothing where there is no job.

        What a step takes out of it is in the job's history by then, as far as that is told.
        """
        ...

    async def counts(self) -> Counts:
        """How much there is now of what is not over."""
        ...


class Storage(Steps, Leases, Outbox, Reads, Shared, Protocol):
    """The store as a whole.

    Attributes:
        shared: whether other nodes can be on the store.
        at_one_place: whether all jobs are: then those that one call creates are made together. Where it raises
            InvalidArgument or ResourceExhausted, nothing was written.
    """

    shared: bool
    at_one_place: bool

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        """Have wake-ups told as they come, until the answer is called.

        Watched jobs that this node changes are told before who changed them has the reply: whoever waits for one is
        woken first. All else is told so that who is woken by it runs after who has the reply.

        Arguments:
            told: called on the event loop; it neither waits nor raises.
        """
        ...

    async def watch(self, job_id: str) -> None:
        """Hint at every change of a job that a read after this call does not show, until `unwatch`."""
        ...

    def expect(self, job_id: str, *, history: bool) -> bool:
        """A job of this id is about to be created by this node: watch it from its first commit on, until `unwatch`.

        False: this store cannot, and it is to be watched once it is there. Where it can, `at_hand` has the job then, as
        far as there is room.

        Arguments:
            history: whether its history is to be read without looking into a file too.
        """
        ...

    def at_hand(self, job_id: str) -> JobRecord | None:
        """A job as it is committed, where that takes no call; else None."""
        ...

    def over_at_hand(self, job_id: str) -> bool | None:
        """Whether a job that `at_hand` has is over, for less than that costs; None: it has none."""
        ...

    def history_at_hand(self, job_id: str) -> Sequence[tuple[int, HistoryEvent]] | None:
        """All lines of a job's history with their numbers, as it is committed, where that takes no call; else None."""
        ...

    def unwatch(self, job_id: str) -> None:
        """Hint at a job's changes no more, from now or soon."""
        ...

    def pass_on(self, job_id: str, words: bytes) -> None:
        """Have other nodes that watch a job told these words, by a hint: they are kept nowhere, and may be lost."""
        ...

    async def failure(self) -> None:
        """Wait until the store is broken for good.

        Raises:
            StoreUnavailable: it is; only a new process can tell what was written.
        """
        ...

    async def surplus(self, keep: int) -> int | None:
        """When the newest of those ended jobs ended that are beyond so many, epoch ms; None when there are no more."""
        ...

    async def purge(self, finished_before: int, limit: int, spared: Collection[str] = ()) -> int:
        """Delete jobs that ended before this time, at most so many, with all that is theirs; how many were.

        What has expired of documents and quotas goes too.

        Where history is moved, a job stays until all of its own is; and until its end is told, where that is to be.

        Arguments:
            spared: jobs that stay all the same.
        """
        ...
