"""One partition of the store in Redis: what the engine asks of it, as calls of operations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from holon.clock import Clock
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import Outcome, task_id
from holon.ports import (
    MAX_PAGE_BYTES,
    Appended,
    Claim,
    Committed,
    Completed,
    Counts,
    Created,
    Creation,
    Fired,
    Hint,
    JobFilter,
    JobRecord,
    Leased,
    NewJob,
    Notice,
    Opened,
    Opening,
    Quota,
    Result,
    Seat,
    Step,
    StoreSettings,
    Superseded,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage.hints import Hints
from holon.storage.outbox import too_much_waits
from holon.storage.records import NewerRecord, encode_need
from holon.storage.redis import answers, arguments
from holon.storage.redis.arguments import Argument, quota_name, settings_text
from holon.storage.redis.claimed import Claimed
from holon.storage.redis.keys import Keys
from holon.storage.redis.link import Link
from holon.storage.redis.opening import Found
from holon.storage.redis.queues import QueuePages
from holon.storage.redis.quotas import Allowances, Quotas
from holon.storage.redis.server import Place, Strictness
from holon.storage.redis.shares import Shares
from holon.storage.sealing import Seal
from holon.telemetry.metrics import StoreMetrics

PURGE_AT_A_TIME = 50


class Partition:
    """A part of the store that has all of a job and of its tasks, and knows nothing of the others.

    Every operation is one call of a script, which does all of it or nothing; see `Storage`. Calls go over one
    connection, many at a time, in order. The time is its server's.

    Arguments:
        number: which partition.
        partitions: of how many.
        server: where it is.
        found: what it was found to be.
        settings: who this node is, and its durations.
        seal: what jobs carry is sealed with it.
        clock: what says the time, for tests; None: the server's clock.
        strictness: what must have become of a call before it is answered.
        shares: what of its credits a session may use here; None: all, since there is no other partition.
        claimed: what this node has claimed in all partitions; None: there is no other.
        told: called with what may be worth a call.
        hints: what is watched.
        metrics: where calls are counted.

    Attributes:
        ready: whether jobs may be ready that were not claimed when it was last asked.
        waiting: the match keys that have waiting tasks, as far as this node knows.
    """

    def __init__(
        self,
        number: int,
        partitions: int,
        server: Place,
        found: Found,
        settings: StoreSettings,
        seal: Seal,
        clock: Clock | None,
        strictness: Strictness,
        shares: Shares | None,
        claimed: Claimed | None,
        told: Callable[[Partition, Hint], None],
        hints: Hints,
        metrics: StoreMetrics,
    ) -> None:
        self.number = number
        self._keys = Keys(number)
        self._settings = settings
        self._seal = seal
        self._shares = shares
        self._claimed = claimed
        self._told = told
        text = settings_text(settings, partitions)
        self.link = Link(server, self._keys, found, settings.node_id, text, clock, strictness, self, hints, metrics)
        self._pages = QueuePages(self.link, seal, many=partitions > 1)
        # Where to look on for lines of history that are in no outbox; empty when that is done.
        self._unlisted = "0"
        self._quotas: Quotas | None = None
        self.ready = True
        self.waiting: set[str] = set()
        # The last stop that was told to this node: the store forgets it when it hears so.
        self._last_stop = self._newest_stop = b""

    def __repr__(self) -> str:
        return f"Partition({self.number}, {self.link})"

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node; raises StoreUnavailable when it is away."""
        await self.link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        await self.link.__aexit__(kind, error, trace)

    @property
    def away(self) -> bool:
        """Whether it did not answer when it was last asked."""
        return self.link.away

    @property
    def open(self) -> bool:
        """Whether it takes new jobs, as far as is known."""
        return not (self.link.away or self.link.full)

    @property
    def calls_waiting(self) -> int:
        """How many calls wait to be sent."""
        return self.link.waiting

    def hurry(self) -> None:
        """Refuse soon what a server that is away does not carry out."""
        self.link.hurry()

    async def failure(self) -> None:
        """Wait until it is closed; raises StoreUnavailable when it is lost for good."""
        await self.link.failure()

    def now(self) -> int:
        """Its server's time, epoch milliseconds."""
        return self.link.now()

    async def watch(self, job_id: str) -> None:
        await self.link.call("watch", job_id, "1")

    def unwatch(self, job_id: str) -> None:
        self.link.tell("watch", job_id, "")

    # What it says ----------------------------------------------------------------------------------------------

    def heard(self, hint: Hint) -> None:
        """Something may be worth a call."""
        self.ready = self.ready or hint.ready
        self.waiting |= hint.keys
        self._told(self, hint)

    def looked(self, hint: Hint) -> None:
        """The same, of all that waits here now."""
        self.waiting = set(hint.keys)
        self.heard(hint)

    def counted(self, session_id: str, held: int) -> None:
        """So many leases a session holds here."""
        if self._shares is not None:
            self._shares.counted(session_id, self.number, held)

    def kept_back(self) -> None:
        """A suspect waits here, which was not handed over."""
        if self._claimed is not None:
            self._claimed.suspects.add(self.number)

    @contextmanager
    def _asking(self, want: int, *, alone: bool = False) -> Iterator[int]:
        """Around a call that asks for claims: how many it asks for. What it leaves is said with its reply."""
        if self._claimed is None:
            self.ready = self.ready and not want
            yield want
            return
        with self._claimed.asking(want, alone=alone) as n:
            self.ready = self.ready and not n
            yield n

    def _held(self, job_id: str, *, still: bool) -> None:
        if self._claimed is not None:
            (self._claimed.kept if still else self._claimed.let_go)(job_id)

    @contextmanager
    def _places(self, seats: Sequence[Seat]) -> Iterator[list[Argument]]:
        """The arguments for the seats of a call."""
        if self._shares is None:
            yield arguments.seats_arguments((seat, None) for seat in seats)
            return
        with self._shares.lent(self.number, seats) as places:
            yield arguments.seats_arguments(places)

    def draw_on(self, quotas: Quotas) -> None:
        """Where what may be made of a quota is known."""
        self._quotas = quotas

    # Steps -----------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        assert self._quotas is not None  # noqa: S101  the store has said where
        with self._asking(want) as n, self._places(seats) as places:

            async def call(allowances: Allowances) -> Any:
                given = arguments.new_jobs_arguments(items, self._settings.max_state_bytes, self._seal, allowances)
                return await self.link.call("create_jobs", *given, n, *places, new_work=True)

            jobs, *rest = await self._quotas.create(items, call)
            if not rest:
                raise too_much_waits(jobs)
            claims, leased = rest
            made = tuple((job.decode(), Creation(what.decode())) for job, what in jobs)
            return Created(made, self._claims(claims), self._leased(leased, seats))

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        given = arguments.event_arguments(job_id, event, self._seal)
        with self._asking(want) as n:
            what, claims = await self.link.call("append", job_id, dedup_key, *given, n)
            return Appended(what.decode()), self._claims(claims)

    async def claim(self, want: int, *, alone: bool = False) -> Sequence[Claim]:
        """As `Storage.claim`; `alone` says that this node has claimed nothing anywhere, and may be given a suspect."""
        with self._asking(want, alone=alone) as n:
            return self._claims(await self.link.call("claim", n, "1" if alone else ""))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("keep", claims)

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("release", claims)

    async def _pairs(self, name: str, claims: Sequence[tuple[str, str]]) -> tuple[bool, ...]:
        given = [part for pair in claims for part in pair]
        ours = tuple(map(bool, await self.link.call(name, len(claims), *given)))
        for (job_id, _), still in zip(claims, ours, strict=True):
            self._held(job_id, still=still and name == "keep")
        return ours

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        given = arguments.step_arguments(step, self._settings.max_state_bytes, self._seal)
        with self._asking(want) as n, self._places(seats) as places:
            conflict, cancel_pending, events, leased, claims = await self.link.call("commit", *given, n, *places)
            self._held(step.job.id, still=not conflict and step.keep and not step.job.status.terminal)
            return Committed(
                bool(conflict),
                bool(cancel_pending),
                answers.events_of(step.job.id, events, self._seal),
                self._leased(leased, seats),
                self._claims(claims),
            )

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        with self._places(seats) as places:
            return self._leased(await self.link.call("spawn", job_id, step, *places), seats)

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        found: list[tuple[str, Outcome]] = []
        start = 0
        while True:
            page, start = await self.link.read("branches", job_id, step, start)
            for at in range(0, len(page), 2):
                name = task_id(job_id, step, page[at])
                found.append((name, answers.outcome_of(name, page[at + 1], self._seal)))
            if not start:
                return found

    def _claims(self, answer: answers.Answer) -> tuple[Claim, ...]:
        """Claims that were handed over. What only a newer release reads is given back, and this node gives up.

        What cannot be opened is given back after a while, and this node goes on: perhaps another one has the key.
        """
        try:
            claims = answers.claims_of(answer, self._seal)
        except NewerRecord as error:
            self._give_back(answers.claimed(answer))
            self.link.give_up(error)
            raise
        if len(claims) < len(answer):
            closed = set(answers.claimed(answer)) - {(claim.job.id, claim.claim_id) for claim in claims}
            asyncio.get_running_loop().call_later(self._settings.claim / 2_000, self._give_back, closed)
        if self._claimed is not None:
            self._claimed.took(claims)
        return claims

    def _give_back(self, claims: Collection[tuple[str, str]]) -> None:
        self.link.tell("release", len(claims), *(part for pair in claims for part in pair))

    def _leased(self, answer: answers.Answer, seats: Sequence[Seat]) -> Leased:
        """Offers that were made. Those that only a newer release reads lapse, and this node gives up."""
        try:
            leased = answers.leased_of(answer, self._seal)
        except NewerRecord as error:
            self.link.give_up(error)
            raise
        self.waiting.difference_update(key for seat in seats for key in seat.keys)
        self.waiting |= leased.left
        return leased

    # Leases ----------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening, order: int | None) -> tuple[Opened, int | None]:
        """As `Storage.open_session`, in the order that another partition gave; answers with the order too."""
        given = arguments.opening_arguments(opening, order)
        return answers.opened_of(await self.link.call("open_session", *given), self._seal)

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await self.link.call("close_session", worker_id, session_id)

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        with self._places(seats) as places:
            return self._leased(await self.link.call("lease", *places), seats)

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        """As `Storage.touch`; the stops are answered again until `stops_taken`."""
        refs = (*touch.accepts, *touch.extends)
        given = arguments.touch_arguments(touch, self._seal)
        with self._places(seats) as places:
            lost, (last, stops), leased = await self.link.call("touch", self._last_stop, *given, *places)
        self._newest_stop = last
        return Touched(
            tuple(refs[at - 1] for at in lost), tuple(map(answers.stop_of, stops)), self._leased(leased, seats)
        )

    def stops_taken(self) -> None:
        """This node knows of all stops that it was told of."""
        self._last_stop = self._newest_stop

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        given = arguments.results_arguments(results, self._settings.max_state_bytes, self._seal)
        with self._asking(want) as n, self._places(seats) as places:
            verdicts, landed, leased, claims = await self.link.call("complete", worker_id, *given, n, *places)
            return Completed(
                tuple(Superseded(verdict.decode()) if verdict else None for verdict in verdicts),
                frozenset(lease.decode() for lease in landed),
                self._leased(leased, seats),
                self._claims(claims),
            )

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        chance = random.randrange(2**31)  # noqa: S311  the jitter of retries
        with self._asking(want) as n, self._places(seats) as places:
            due, claims, leased, spawns = await self.link.call("fire", limit, chance, n, *places)
            pairs = (text.decode().rpartition("-") for text in spawns)
            return Fired(
                int(due) if due else None,
                self._claims(claims),
                self._leased(leased, seats),
                tuple((job, int(step)) for job, _, step in pairs),
            )

    async def task(self, task_id: str) -> TaskRecord | None:
        fields = await self.link.read("task", task_id)
        return answers.task_of(task_id, fields, self._seal) if fields else None

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        found = answers.needs_of(await self.link.read("backlog"))
        return {key: (need, count) for key, (need, count) in found.items() if need.skill == skill}

    async def needs(self) -> Mapping[str, Need]:
        return {key: need for key, (need, _) in answers.needs_of(await self.link.read("backlog")).items()}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        return await self._pages.page(key, after, limit)

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        given: list[Argument] = [len(moves)]
        for task, need in moves:
            given += (task, need.key, encode_need(need))
        await self.link.call("rekey", *given)

    # The outbox ------------------------------------------------------------------------------------------------

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved, as of a second ago or so."""
        return self.link.backlog

    async def take(self, limit: int, room: int) -> tuple[Sequence[Notice], int]:
        """As `Storage.take`, about as much as there is room for (bytes); answers with how much it was too."""
        if self._settings.history_backlog is None:
            return [], 0
        found = await self.link.call("take", limit, room)
        # What is older than the moving of history comes when there is nothing else, a little at a time.
        while not found and self._unlisted:
            self._unlisted = (await self.link.call("enlist", self._unlisted)).decode()
            found = await self.link.call("take", limit, room)
        return answers.notices_of(found, self._seal), sum(map(answers.size_of_notice, found))

    async def settle(self, notices: Sequence[str]) -> None:
        await self.link.call("settle", len(notices), *notices)

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        fields = await self.link.read("job", job_id)
        return answers.record_of(fields, self._seal) if fields else None

    async def jobs(self, which: JobFilter, limit: int) -> tuple[list[tuple[JobRecord, int]], int | None]:
        """As `Storage.jobs`, each job with the bytes of its state."""
        found: list[Any] = []
        start: int | str = "" if which.before is None else which.before
        room, full = MAX_PAGE_BYTES, 0
        statuses = " ".join(map(str, which.statuses))
        bounds = ["" if time is None else time for time in (which.created_after, which.created_before)]
        # One more than asked for says whether there is another page.
        while len(found) <= limit and not full:
            wanted = limit + 1 - len(found)
            empty = "" if found else "1"
            page, start, full = await self.link.read(
                "jobs", which.owner, start, wanted, room, which.blueprint or "", empty, *bounds, statuses
            )
            found += page
            room -= sum(len(fields[0]) for fields in page)
            if not start:
                break
        more = found[:limit][-1][9] if full or len(found) > limit else None
        return answers.records_of(found[:limit], self._seal), more

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        lines: list[tuple[int, HistoryEvent]] = []
        start = after
        while len(lines) < limit:
            page, start = await self.link.read("history", job_id, start, limit)
            for at in range(0, len(page), 2):
                some = answers.history_of(job_id, page[at], page[at + 1], self._seal)
                lines += (line for line in some if line[0] > after)
            if not start:
                break
        return lines[:limit]

    async def counts(self) -> Counts:
        needs = await self.link.read("backlog")
        totals = await self.link.ask("HGETALL", "totals")
        of = {name.decode(): int(n) for name, n in zip(totals[::2], totals[1::2], strict=True)}
        waiting: dict[str, int] = {}
        for need, count in answers.needs_of(needs).values():
            waiting[need.skill] = waiting.get(need.skill, 0) + count
        held, _ = of.pop("held", 0), of.pop("history", 0)
        return Counts({Status(status): n for status, n in of.items() if n}, sum(waiting.values()), held, waiting)

    async def ended(self, beyond: int) -> int | None:
        """When the newest of those ended jobs ended that are beyond so many here, epoch ms; None: there are no more."""
        found = await self.link.ask("ZREVRANGE", "over", beyond, beyond, "WITHSCORES")
        return int(found[1]) if found else None

    async def ended_since(self, time: int) -> int:
        """How many jobs ended at this time or later."""
        return int(await self.link.ask("ZCOUNT", "over", time, "+inf"))

    async def quota_made(self, quota: Quota) -> int:
        """How many jobs were made here of a quota."""
        made = await self.link.ask("HGET", "quotas", quota_name(quota))
        return int(made.partition(b" ")[0]) if made is not None else 0

    async def purge(self, finished_before: int, limit: int) -> int:
        purged = 0
        while purged < limit:
            done = int(await self.link.call("purge", finished_before, min(PURGE_AT_A_TIME, limit - purged)))
            purged += done
            if not done:
                break
        return purged
