"""The store in Redis, as the engine sees it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from holon.clock import Clock, SystemClock
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import Outcome, task_id
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import (
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
from holon.randomness import random_id
from holon.storage.hints import Hints
from holon.storage.records import encode_need
from holon.storage.redis import answers, arguments
from holon.storage.redis.arguments import Argument
from holon.storage.redis.channel import Channel, hint_of
from holon.storage.redis.lane import Lane
from holon.storage.redis.scripts import Script, load_scripts
from holon.storage.redis.server import Connection, Server, ask, version_of
from holon.telemetry.metrics import StoreMetrics

# What the keys of this release look like; another is refused.
SCHEMA = 1
PARTITIONS = 1
PREFIX = "{h:0}:"
PURGE_AT_A_TIME = 50


class RedisStorage:
    """A store that many nodes share.

    Every operation is one call of a script, which does all of it or nothing. Calls go over one connection, many at a
    time, in order. The time is the server's.

    Arguments:
        uri: where the server is: `redis://[USER:PASSWORD@]HOST:PORT/DATABASE`, `rediss://...`, `unix:///PATH`.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time, for tests; None: the server's clock.
    Raises:
        ConfigError: the URI is none of these.
    """

    def __init__(self, uri: str, settings: StoreSettings | None = None, clock: Clock | None = None) -> None:
        self._uri = uri
        self._settings = settings or StoreSettings(node_id="redis")
        self._clock = clock
        self._servers_clock = SystemClock()
        self._ahead = 0
        self._latest = 0
        self._hints = Hints()
        self.metrics = StoreMetrics()
        self._server = Server(uri, f"holon-{self._settings.node_id}")
        self._scripts: Mapping[str, Script] = {}
        self._id = ""
        self._lane: Lane | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"RedisStorage({self._server}, {self._lane})"

    def configure(self, settings: StoreSettings) -> None:
        """Take the node's settings; before the store is opened."""
        self._settings = settings
        self._server = Server(self._uri, f"holon-{settings.node_id}")

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node.

        Raises:
            ConfigError: the server cannot be reached, is too old or set up to lose data, or holds another store.
        """
        await self._first_look()
        self._broken = asyncio.get_running_loop().create_future()
        self._lane = Lane(self._ready_connection, self.metrics)
        self._tasks.append(asyncio.create_task(self._lane.run(), name="store-calls"))
        self._tasks[0].add_done_callback(self._lane_ended)
        channel = Channel(self._server, (f"{self._id}:", f"{self._id}:{self._settings.node_id}"), self._heard, self._look)
        try:
            await self._call("enter")
            self._tasks.append(asyncio.create_task(channel.run(), name="store-channel"))
            await channel.listening.wait()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        calls, *others = self._tasks
        for task in others:
            task.cancel()
        if self._lane is not None:
            self._lane.finish()
        await asyncio.wait(self._tasks)
        self._tasks.clear()

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        if self._broken is not None and not self._broken.done():
            error = None if lane.cancelled() else lane.exception()
            if error is None:
                self._broken.set_result(None)
            else:
                self._broken.set_exception(error)
                self._broken.exception()

    @property
    def waiting(self) -> int:
        """How many calls wait to be sent."""
        return self._lane.waiting if self._lane is not None else 0

    async def failure(self) -> None:
        """Wait until the store is closed, or broken for good.

        Raises:
            StoreUnavailable: what is at the other end is not this store any more; only a restart helps.
        """
        if self._broken is not None:
            await asyncio.shield(self._broken)

    # Connections -----------------------------------------------------------------------------------------------

    async def _first_look(self) -> None:
        try:
            connection = await self._server.connect()
            try:
                version = await version_of(connection)
                self._scripts = load_scripts(version)
                start = self._scripts["start"]
                [known] = await ask(
                    connection, ("EVAL", start.text, 1, f"{PREFIX}meta", random_id(), SCHEMA, PARTITIONS)
                )
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError) as error:
            raise ConfigError(f"the Redis of STORAGE_URI cannot be reached: {error}") from error
        if isinstance(known, Exception):
            raise ConfigError(f"the Redis of STORAGE_URI cannot hold a store: {known}") from known
        store, schema, partitions, time = known
        if int(schema) != SCHEMA:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI is of schema {int(schema)}, and this release reads {SCHEMA}"
            )
        if int(partitions) != PARTITIONS:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI has {int(partitions)} partitions, and this node {PARTITIONS}"
            )
        self._id = store.decode()
        if self._clock is not None:
            self._clock.not_before(int(time))

    async def _ready_connection(self) -> Connection:
        connection = await self._server.connect()
        try:
            loads = [("SCRIPT", "LOAD", script.text) for script in self._scripts.values()]
            found, *loaded = await ask(connection, ("HGET", f"{PREFIX}meta", "id"), *loads)
            for reply in (found, *loaded):
                if isinstance(reply, RedisError):
                    raise reply
            if found != self._id.encode():
                raise StoreUnavailable(
                    "the Redis of STORAGE_URI has lost the store, or holds another; restore it, and start the node again"
                )
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    # Calls -----------------------------------------------------------------------------------------------------

    async def _call(self, name: str, *given: Argument, new_work: bool = False) -> Any:
        """Call a script that writes."""
        script = self._scripts[name]
        now = "" if self._clock is None else self._clock.now_ms()
        about = (now, self._settings.node_id, random_id(), arguments.settings_text(self._settings))
        command = ("EVALSHA", script.sha, 1, f"{PREFIX}meta", *about, *given)
        time, hint, answer = await self._open_lane().submit(command, script.text, new_work=new_work)
        self._heard_time(time)
        if hint:
            self._heard(hint.decode())
        return answer

    async def _read(self, name: str, *given: Argument) -> Any:
        """Call a script that only reads."""
        script = self._scripts[name]
        return await self._open_lane().submit(("EVALSHA", script.sha, 1, f"{PREFIX}meta", *given), script.text)

    def _open_lane(self) -> Lane:
        if self._lane is None:
            raise StoreUnavailable("the store is not open")
        return self._lane

    def _heard_time(self, time: int) -> None:
        if self._clock is None:
            self._ahead = time - self._servers_clock.now_ms()

    def _heard(self, words: str) -> None:
        hint = hint_of(words, self._hints.watched)
        if hint is not None:
            self._hints.give(hint)

    async def _look(self, first: bool) -> None:
        words = (await self._read("look")).decode()
        if not first:
            # Match keys may be many, and whoever can do something about one has looked when it came.
            words = " ".join(word for word in words.split() if word[0] in "rd")
        self._heard(words)

    def now(self) -> int:
        if self._clock is not None:
            return self._clock.now_ms()
        self._latest = max(self._latest, self._servers_clock.now_ms() + self._ahead)
        return self._latest

    def hints(self) -> AsyncIterator[Hint]:
        return self._hints.listen()

    async def watch(self, job_id: str) -> None:
        self._hints.watched.add(job_id)
        await self._call("watch", job_id, "1")

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)
        script = self._scripts["watch"]
        about = ("", self._settings.node_id, "", arguments.settings_text(self._settings))
        self._open_lane().send(("EVALSHA", script.sha, 1, f"{PREFIX}meta", *about, job_id, ""), script.text)

    # Steps -----------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        given = arguments.new_jobs_arguments(items, self._settings.max_state_bytes)
        jobs, claims, leased = await self._call(
            "create_jobs", *given, want, *arguments.seats_arguments(seats), new_work=True
        )
        made = tuple((job.decode(), Creation(what.decode())) for job, what in jobs)
        return Created(made, answers.claims_of(claims), answers.leased_of(leased))

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        what, claims = await self._call("append", job_id, dedup_key, *arguments.event_arguments(event), want)
        return Appended(what.decode()), answers.claims_of(claims)

    async def claim(self, want: int) -> Sequence[Claim]:
        return answers.claims_of(await self._call("claim", want))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("keep", claims)

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs("release", claims)

    async def _pairs(self, name: str, claims: Sequence[tuple[str, str]]) -> tuple[bool, ...]:
        given = [part for pair in claims for part in pair]
        return tuple(map(bool, await self._call(name, len(claims), *given)))

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        given = arguments.step_arguments(step, self._settings.max_state_bytes)
        conflict, cancel_pending, events, leased, claims = await self._call(
            "commit", *given, want, *arguments.seats_arguments(seats)
        )
        return Committed(
            bool(conflict),
            bool(cancel_pending),
            answers.events_of(events),
            answers.leased_of(leased),
            answers.claims_of(claims),
        )

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        return answers.leased_of(await self._call("spawn", job_id, step, *arguments.seats_arguments(seats)))

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        found: list[tuple[str, Outcome]] = []
        start = 0
        while True:
            page, start = await self._read("branches", job_id, step, start)
            found += [
                (task_id(job_id, step, page[at]), answers.outcome_of(page[at + 1])) for at in range(0, len(page), 2)
            ]
            if not start:
                return found

    # Leases ----------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening) -> Opened:
        return answers.opened_of(await self._call("open_session", *arguments.opening_arguments(opening)))

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await self._call("close_session", worker_id, session_id)

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        return answers.leased_of(await self._call("lease", *arguments.seats_arguments(seats)))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        refs = (*touch.accepts, *touch.extends)
        lost, stops, leased = await self._call(
            "touch", *arguments.touch_arguments(touch), *arguments.seats_arguments(seats)
        )
        return Touched(
            tuple(refs[at - 1] for at in lost), tuple(map(answers.stop_of, stops)), answers.leased_of(leased)
        )

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        given = arguments.results_arguments(results, self._settings.max_state_bytes)
        verdicts, landed, leased, claims = await self._call(
            "complete", worker_id, *given, want, *arguments.seats_arguments(seats)
        )
        return Completed(
            tuple(Superseded(verdict.decode()) if verdict else None for verdict in verdicts),
            frozenset(lease.decode() for lease in landed),
            answers.leased_of(leased),
            answers.claims_of(claims),
        )

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        chance = random.randrange(2**31)  # noqa: S311  the jitter of retries
        due, claims, leased, spawns = await self._call(
            "fire", limit, chance, want, *arguments.seats_arguments(seats)
        )
        pairs = (text.decode().rpartition("-") for text in spawns)
        return Fired(
            int(due) if due else None,
            answers.claims_of(claims),
            answers.leased_of(leased),
            tuple((job, int(step)) for job, _, step in pairs),
        )

    async def task(self, task_id: str) -> TaskRecord | None:
        fields = await self._open_lane().submit(("HMGET", f"{PREFIX}t:{task_id}", *answers.TASK_FIELDS))
        return answers.task_of(task_id, fields)

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        found = answers.needs_of(await self._read("backlog"))
        return {key: (need, count) for key, (need, count) in found.items() if need.skill == skill}

    async def needs(self) -> Mapping[str, Need]:
        return {key: need for key, (need, _) in answers.needs_of(await self._read("backlog")).items()}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        found = await self._read("queued_tasks", key, after, limit)
        tasks = (answers.task_of(fields[-1].decode(), fields[:-1]) for fields in found)
        return [task for task in tasks if task is not None]

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        given: list[Argument] = [len(moves)]
        for task, need in moves:
            given += (task, need.key, encode_need(need))
        await self._call("rekey", *given)

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        fields = await self._read("job", job_id)
        return answers.record_of(fields) if fields else None

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        found: list[Any] = []
        start: int | str = "" if which.before is None else which.before
        statuses = " ".join(map(str, which.statuses))
        # One more than asked for says whether there is another page.
        while len(found) <= limit:
            page, start = await self._read(
                "jobs", which.owner, start, limit + 1 - len(found), which.blueprint or "", statuses
            )
            found += page
            if not start:
                break
        more = found[limit - 1][9] if len(found) > limit else None
        return [answers.record_of(fields) for fields in found[:limit]], more

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        key = f"{PREFIX}h:{job_id}"
        entries = await self._open_lane().submit(("XRANGE", key, f"({after}", "+", "COUNT", limit))
        lines = [line for entry in entries for line in answers.history_of(entry) if line[0] > after]
        return lines[:limit]

    async def counts(self) -> Counts:
        totals, needs = await asyncio.gather(
            self._open_lane().submit(("HGETALL", f"{PREFIX}totals")), self._read("backlog")
        )
        of = {name.decode(): int(n) for name, n in zip(totals[::2], totals[1::2], strict=True)}
        waiting: dict[str, int] = {}
        for need, count in answers.needs_of(needs).values():
            waiting[need.skill] = waiting.get(need.skill, 0) + count
        held = of.pop("held", 0)
        return Counts({Status(status): n for status, n in of.items() if n}, sum(waiting.values()), held, waiting)

    async def purge(self, finished_before: int, limit: int) -> int:
        purged = 0
        while purged < limit:
            done = int(await self._call("purge", finished_before, min(PURGE_AT_A_TIME, limit - purged)))
            purged += done
            if not done:
                break
        return purged
