"""The store in Redis, as the engine sees it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from holon.clock import Clock
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import Outcome, task_id
from holon.errors import StoreUnavailable
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
from holon.storage.outbox import TAKE_BYTES, too_much_waits
from holon.storage.records import NewerRecord, encode_need
from holon.storage.redis import answers, arguments
from holon.storage.redis.arguments import Argument
from holon.storage.redis.link import META, PREFIX, Link
from holon.storage.redis.queues import QueuePages
from holon.storage.redis.quotas import Allowances, Quotas
from holon.storage.redis.server import Server, Strictness
from holon.storage.redis.shared import SharedCalls
from holon.telemetry.metrics import StoreMetrics

PURGE_AT_A_TIME = 50


class RedisStorage(SharedCalls):
    """A store that many nodes share.

    Every operation is one call of a function there, which does all of it or nothing. Calls go over one connection, many
    at a time, in order. The time is the server's.

    Arguments:
        uri: where the server is: `redis://[USER:PASSWORD@]HOST:PORT/DATABASE`, `rediss://...`, `unix:///PATH`.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time, for tests; None: the server's clock.
        replicas: how many of its replicas must have a call before it is answered.
        synced: whether it must be on the disk too, there and at the server itself.
    Raises:
        ConfigError: the URI is none of these.
    """

    def __init__(
        self,
        uri: str,
        settings: StoreSettings | None = None,
        clock: Clock | None = None,
        *,
        replicas: int = 0,
        synced: bool = False,
    ) -> None:
        self._uri = uri
        self._settings = settings or StoreSettings(node_id="redis")
        self._clock = clock
        self._strictness = Strictness(replicas, synced)
        self._server = Server(uri)
        self._hints = Hints()
        self.metrics = StoreMetrics()
        self._open: Link | None = None
        self._of_quotas: Quotas | None = None
        self._pages: QueuePages | None = None
        # The last stop that was told to this node: the store forgets it when it hears so.
        self._last_stop = b""
        # Where to look on for lines of history that are in no outbox; empty when that is done.
        self._unlisted = "0"

    def __repr__(self) -> str:
        return f"RedisStorage({self._server}, {self._open})"

    def configure(self, settings: StoreSettings) -> None:
        """Take the node's settings; before the store is opened."""
        self._settings = settings

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node.

        Raises:
            ConfigError: the server cannot be reached, is too old or set up to lose data, or holds another store.
        """
        link = Link(self._server, self._settings, self._clock, self._strictness, self._hints, self.metrics)
        self._open = await link.__aenter__()
        self._of_quotas = Quotas(self._open, 0, (META,))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        if self._open is not None:
            await self._open.__aexit__(kind, error, trace)

    @property
    def _link(self) -> Link:
        if self._open is None:
            raise StoreUnavailable("the store is not open")
        return self._open

    @property
    def _quotas(self) -> Quotas:
        if self._of_quotas is None:
            raise StoreUnavailable("the store is not open")
        return self._of_quotas

    @property
    def waiting(self) -> int:
        """How many calls wait to be sent."""
        return self._open.waiting if self._open is not None else 0

    def hurry(self) -> None:
        if self._open is not None:
            self._open.hurry()

    async def failure(self) -> None:
        """Wait until the store is closed, or broken for good.

        Raises:
            StoreUnavailable: what is at the other end is not this store any more, or holds what only a newer release
            reads; only a restart helps.
        """
        await self._link.failure()

    def now(self) -> int:
        return self._link.now()

    def hints(self) -> AsyncIterator[Hint]:
        return self._hints.listen()

    async def watch(self, job_id: str) -> None:
        self._hints.watched.add(job_id)
        await self._link.call("watch", job_id, "1")

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)
        self._link.tell("watch", job_id, "")

    # Steps -----------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        places = arguments.seats_arguments(seats)

        async def call(allowances: Allowances) -> Any:
            given = arguments.new_jobs_arguments(items, self._settings.max_state_bytes, allowances)
            return await self._link.call("create_jobs", *given, want, *places, new_work=True)

        jobs, *rest = await self._quotas.create(items, call)
        if not rest:
            raise too_much_waits(jobs)
        claims, leased = rest
        made = tuple((job.decode(), Creation(what.decode())) for job, what in jobs)
        return Created(made, self._claims(claims), self._leased(leased))

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        what, claims = await self._link.call("append", job_id, dedup_key, *arguments.event_arguments(event), want)
        return Appended(what.decode()), self._claims(claims)

    async def claim(self, want: int) -> Sequence[Claim]:
        return self._claims(await self._link.call("claim", want))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("keep", claims)

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("release", claims)

    async def _pairs(self, name: str, claims: Sequence[tuple[str, str]]) -> tuple[bool, ...]:
        given = [part for pair in claims for part in pair]
        return tuple(map(bool, await self._link.call(name, len(claims), *given)))

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        given = arguments.step_arguments(step, self._settings.max_state_bytes)
        conflict, cancel_pending, events, leased, claims = await self._link.call(
            "commit", *given, want, *arguments.seats_arguments(seats)
        )
        return Committed(
            bool(conflict),
            bool(cancel_pending),
            answers.events_of(events),
            self._leased(leased),
            self._claims(claims),
        )

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        return self._leased(await self._link.call("spawn", job_id, step, *arguments.seats_arguments(seats)))

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        found: list[tuple[str, Outcome]] = []
        start = 0
        while True:
            page, start = await self._link.read("branches", job_id, step, start)
            found += [
                (task_id(job_id, step, page[at]), answers.outcome_of(page[at + 1])) for at in range(0, len(page), 2)
            ]
            if not start:
                return found

    def _claims(self, answer: answers.Answer) -> tuple[Claim, ...]:
        """Claims that were handed over. What only a newer release reads is given back, and this node gives up."""
        try:
            return answers.claims_of(answer)
        except NewerRecord as error:
            given = [part for pair in answers.claimed(answer) for part in pair]
            self._link.tell("release", len(answer), *given)
            self._link.give_up(error)
            raise

    def _leased(self, answer: answers.Answer) -> Leased:
        """Offers that were made. Those that only a newer release reads lapse, and this node gives up."""
        try:
            return answers.leased_of(answer)
        except NewerRecord as error:
            self._link.give_up(error)
            raise

    # Leases ----------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening) -> Opened:
        return answers.opened_of(await self._link.call("open_session", *arguments.opening_arguments(opening)))

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await self._link.call("close_session", worker_id, session_id)

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        return self._leased(await self._link.call("lease", *arguments.seats_arguments(seats)))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        refs = (*touch.accepts, *touch.extends)
        given = arguments.touch_arguments(touch)
        lost, (last, stops), leased = await self._link.call(
            "touch", self._last_stop, *given, *arguments.seats_arguments(seats)
        )
        self._last_stop = last
        return Touched(tuple(refs[at - 1] for at in lost), tuple(map(answers.stop_of, stops)), self._leased(leased))

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        given = arguments.results_arguments(results, self._settings.max_state_bytes)
        verdicts, landed, leased, claims = await self._link.call(
            "complete", worker_id, *given, want, *arguments.seats_arguments(seats)
        )
        return Completed(
            tuple(Superseded(verdict.decode()) if verdict else None for verdict in verdicts),
            frozenset(lease.decode() for lease in landed),
            self._leased(leased),
            self._claims(claims),
        )

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        chance = random.randrange(2**31)  # noqa: S311  the jitter of retries
        due, claims, leased, spawns = await self._link.call(
            "fire", limit, chance, want, *arguments.seats_arguments(seats)
        )
        pairs = (text.decode().rpartition("-") for text in spawns)
        return Fired(
            int(due) if due else None,
            self._claims(claims),
            self._leased(leased),
            tuple((job, int(step)) for job, _, step in pairs),
        )

    async def task(self, task_id: str) -> TaskRecord | None:
        fields = await self._link.ask("HMGET", f"{PREFIX}t:{task_id}", *answers.TASK_FIELDS)
        return answers.task_of(task_id, fields)

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        found = answers.needs_of(await self._link.read("backlog"))
        return {key: (need, count) for key, (need, count) in found.items() if need.skill == skill}

    async def needs(self) -> Mapping[str, Need]:
        return {key: need for key, (need, _) in answers.needs_of(await self._link.read("backlog")).items()}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        if self._pages is None:
            self._pages = QueuePages(self._link)
        return await self._pages.page(key, after, limit)

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        given: list[Argument] = [len(moves)]
        for task, need in moves:
            given += (task, need.key, encode_need(need))
        await self._link.call("rekey", *given)

    # The outbox ------------------------------------------------------------------------------------------------

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved, as of a second ago or so."""
        return self._link.backlog

    async def take(self, limit: int) -> Sequence[Notice]:
        if self._settings.history_backlog is None:
            return []
        found = await self._link.call("take", limit, TAKE_BYTES)
        # What is older than the moving of history comes when there is nothing else, a little at a time.
        while not found and self._unlisted:
            self._unlisted = (await self._link.call("enlist", self._unlisted)).decode()
            found = await self._link.call("take", limit, TAKE_BYTES)
        return [answers.notice_of(one) for one in found]

    async def settle(self, notices: Sequence[str]) -> None:
        await self._link.call("settle", len(notices), *notices)

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        fields = await self._link.read("job", job_id)
        return answers.record_of(fields) if fields else None

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        found: list[Any] = []
        start: int | str = "" if which.before is None else which.before
        room, full = MAX_PAGE_BYTES, 0
        statuses = " ".join(map(str, which.statuses))
        bounds = ["" if time is None else time for time in (which.created_after, which.created_before)]
        # One more than asked for says whether there is another page.
        while len(found) <= limit and not full:
            wanted = limit + 1 - len(found)
            empty = "" if found else "1"
            page, start, full = await self._link.read(
                "jobs", which.owner, start, wanted, room, which.blueprint or "", empty, *bounds, statuses
            )
            found += page
            room -= sum(len(fields[0]) for fields in page)
            if not start:
                break
        more = found[:limit][-1][9] if full or len(found) > limit else None
        return [answers.record_of(fields) for fields in found[:limit]], more

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        lines: list[tuple[int, HistoryEvent]] = []
        start = after
        while len(lines) < limit:
            page, start = await self._link.read("history", job_id, start, limit)
            for at in range(0, len(page), 2):
                lines += (line for line in answers.history_of(page[at], page[at + 1]) if line[0] > after)
            if not start:
                break
        return lines[:limit]

    async def counts(self) -> Counts:
        needs = await self._link.read("backlog")
        totals = await self._link.ask("HGETALL", f"{PREFIX}totals")
        of = {name.decode(): int(n) for name, n in zip(totals[::2], totals[1::2], strict=True)}
        waiting: dict[str, int] = {}
        for need, count in answers.needs_of(needs).values():
            waiting[need.skill] = waiting.get(need.skill, 0) + count
        held, _ = of.pop("held", 0), of.pop("history", 0)
        return Counts({Status(status): n for status, n in of.items() if n}, sum(waiting.values()), held, waiting)

    async def surplus(self, keep: int) -> int | None:
        found = await self._link.ask("ZREVRANGE", f"{PREFIX}over", keep, keep, "WITHSCORES")
        return int(found[1]) if found else None

    async def purge(self, finished_before: int, limit: int) -> int:
        await self._forget_expired()
        purged = 0
        while purged < limit:
            done = int(await self._link.call("purge", finished_before, min(PURGE_AT_A_TIME, limit - purged)))
            purged += done
            if not done:
                break
        return purged
