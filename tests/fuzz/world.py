"""A node for hostile callers: engine, store and doors in this process, with a client and a worker that mean well."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.core.rows import WorkerRow
from holon.core.tables import Tables
from holon.domain.blueprint import Blueprint
from holon.domain.client import DEFAULT, Client
from holon.domain.job import Status
from holon.domain.reputation import Rules
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.engine.overview import Overview
from holon.engine.reloading import Reloading
from holon.engine.requests import Creating
from holon.engine.session import Session as EngineSession
from holon.errors import HolonError
from holon.ports import JobFilter, JobRecord, StoreSettings
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.security.admission import Admission
from holon.security.clients import Clients, sole
from holon.storage.memory import MemoryStorage
from holon.storage.sqlite import SqliteStorage
from holon.telemetry.log import of_a_call_that_is_over
from holon.transports.grpc.caller import called_by
from holon.transports.grpc.client_door import ClientDoor
from holon.transports.grpc.session import Session
from holon.transports.grpc.settings import DoorSettings, WorkerDoorSettings
from holon.transports.grpc.worker_door import WorkerDoor
from holon.wire.trees import read_summary
from tests.fuzz.streams import Request, Response, Stream

T = TypeVar("T")

GUARD = 60.0
GOOD = "the-worker-that-means-well"
# Skills that hostile workers offer.
BAIT = ("bait", "other")
TOKEN = "the-token-of-the-callers"
ME = Client(DEFAULT)
# Timers of all kinds fire while an example runs: what a stream leaves behind is over before the next has gone far.
LEASE, OFFER = 400, 150
STORE = StoreSettings("node-1", lease=LEASE, offer=OFFER)
DOOR = WorkerDoorSettings(node_id="node-1", lease=LEASE / 1000, offer=OFFER / 1000, silence=600.0, hello=GUARD)
# Workers break the rules all the time, and are to go on with it.
ENGINE = EngineSettings(
    concurrent_jobs=20, retry_first=1, retry_longest=5, job_retention=500, reputation=Rules(threshold=0.0)
)
# What a caller may be told. INTERNAL and UNKNOWN are faults of ours.
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


def relay(name: str) -> Blueprint:
    """Asks a worker for a skill, `good` or what the job's data says, and goes on with what it answers."""
    blueprint = Blueprint(name, api_endpoint=f"/{name}", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        skill = str(initial_data.get("skill", name))
        actions.dispatch_task(skill, initial_data, transitions={"success": "end", "failure": "broken"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    @blueprint.handler(is_end=True, outcome="failed")
    async def broken() -> None: ...

    return blueprint


class Errors(logging.Handler):
    """Everything that is logged as an error while it is entered, or that the loop's tasks leave unsaid."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        # A caller went away while the library's health service wrote: gRPC cannot send the end during that write.
        cut_off = record.exc_info is not None and "grpc_call_start_batch: 8" in str(record.exc_info[1])
        if not of_a_call_that_is_over(record) and not (cut_off and "Health/Watch" in record.getMessage()):
            self.seen.append(logging.Formatter().format(record))

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Also what tasks raised and nobody took."""
        loop.set_exception_handler(self._take)

    def _take(self, _: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:
        # The library wakes the loops of the whole process, and one of another test may be closed by now.
        if "PollerCompletionQueue" not in said["message"] or "loop is closed" not in str(said.get("exception")):
            self.seen.append(f"{said}")

    def check(self) -> None:
        """There were none."""
        assert not self.seen, "\n".join(self.seen)


class World:
    """One event loop with all of it; examples run in it one after the other, by `run`.

    Arguments:
        file: where its store is; None: in memory, where no call of it waits.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._loop = asyncio.new_event_loop()
        self._errors = Errors().__enter__()
        self._errors.watch(self._loop)
        self._numbers = itertools.count()
        self.run(self._open())

    def run(self, example: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; nobody else's task runs meanwhile but those of the node."""
        return self._loop.run_until_complete(example)

    async def _open(self) -> None:
        clock = SystemClock()
        self.store: MemoryStorage | SqliteStorage = MemoryStorage(STORE, clock)
        if self._file is not None:
            self.store = SqliteStorage(self._file, STORE, clock, synchronous="NORMAL")
        await self.store.__aenter__()
        self.engine = Engine(self.store, STORE, ENGINE, read_told=read_summary)
        self.engine.blueprints.register_all([relay("good"), relay("bait")])
        holarchy = Holarchy(self.store, "fuzzed", 8)
        overview = Overview(self.engine, "node-1", "1.2.3", lambda grace, reason: None, Reloading().reload, holarchy)
        self.admission = Admission(clock, shared=TOKEN)
        self.door = WorkerDoor(self.engine.workers, DOOR, None, self.admission, clock, holarchy, self.engine.trees)
        self.clients = ClientDoor(
            self.engine.jobs,
            self.engine.watching,
            self.engine.trees,
            overview,
            DoorSettings(),
            None,
            Clients(sole(TOKEN)),
        )
        self._running = asyncio.create_task(self.engine.run())
        await self.turns()
        self.good = GoodWorker(self, GOOD, "good")
        await self.good.join()
        await self.good_job()
        # The job's run may end a moment after the job.
        await self.until(lambda: not self.engine.executor.running)
        self._tasks = self._names()

    async def turns(self, number: int = 8) -> None:
        """Let everybody run who can."""
        for _ in range(number):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let everybody run until a condition holds."""
        async with asyncio.timeout(GUARD):
            for turn in itertools.count():
                if condition():
                    return
                # The first turns cost nothing; what takes longer waits for a timer.
                await asyncio.sleep(0 if turn < 50 else 0.002)

    # Streams -----------------------------------------------------------------------------------------------------

    def serve(self, stream: Stream) -> asyncio.Task[None]:
        """Have the door serve a stream, as grpc would."""

        async def serving() -> None:
            call: Any = stream
            with suppress(grpc.aio.AbortError):
                called_by(self.admission.by_token(TOKEN))
                await self.door._serve(None, call)
                stream.ended = grpc.StatusCode.OK

        return asyncio.create_task(serving(), name="serving")

    # What must hold, whatever anybody sends ----------------------------------------------------------------------

    async def good_job(self) -> str:
        """A job of the client that means well finishes now, with what its worker answered; its id."""
        number = next(self._numbers)
        job_id = (await self.engine.jobs.create(ME, Creating("good", {"n": number}))).job_id
        async with asyncio.timeout(GUARD):
            while (record := await self.engine.jobs.get(ME, job_id)).job.status is not Status.FINISHED:
                assert not record.job.status.terminal, f"a good job ended {record.job.status}: {record.job.error}"
                await asyncio.sleep(0 if self.good.busy else 0.002)
        assert record.job.state_history["echo"] == number
        return job_id

    def check(self) -> None:
        """No error was logged, and nobody holds more than it granted."""
        self._errors.check()
        for session in self.engine.dispatcher.sessions:
            assert session.promised >= 0
        assert 0 <= self.engine.executor.running <= self.engine.executor.limit

    async def check_books(self) -> None:
        """What the node thinks that workers hold is what the store says, once nothing is under way any more."""
        async with asyncio.timeout(GUARD):
            while wrong := await self._account():
                try:
                    await asyncio.sleep(0.002)
                except asyncio.CancelledError:
                    raise AssertionError(f"held by sessions, and by the store's account: {wrong}") from None

    async def _account(self) -> list[tuple[object, set[str]]]:
        await self.engine.touches.flush()
        await self.turns()
        workers = await self.store._do(lambda tables, _: [(row.session_id, set(row.held)) for row in _rows(tables)])
        held = dict(workers)
        return [
            (session, held[session.session_id])
            for session in self.engine.dispatcher.sessions
            if session.session_id in held and (session.promised or set(session.leases) != held[session.session_id])
        ]

    def check_over(self) -> None:
        """After the last caller: nothing of any is left, and every job ends."""
        self.run(self._check_over())
        self.close()
        self.check()
        gc.collect()
        left = [one for one in gc.get_objects() if isinstance(one, Session | Stream)]
        assert not left, f"{len(left)} streams are still in memory: {left[:3]}"

    def close(self) -> None:
        """End all of it."""
        if not self._loop.is_closed():
            self.run(self._close())
            self._loop.close()
            self._errors.__exit__()

    async def _check_over(self) -> None:
        await self.until(lambda: [one.worker_id for one in self.engine.dispatcher.sessions] == [GOOD])
        await self.good_job()
        self.check()
        await self._finish_all()
        await self._end_all()
        await self.until(lambda: not self.good.session.leases and not self.engine.executor.running)
        await self.until(lambda: self._names() == self._tasks)
        assert self.good.session.promised == 0

    async def _finish_all(self) -> None:
        """A worker that means well can finish every job that hostile ones left."""
        honest = GoodWorker(self, "honest", *BAIT)
        await honest.join()
        async with asyncio.timeout(GUARD):
            while [one for one in await self._live() if one.job.initial_data.get("skill") in BAIT]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await honest.leave()

    async def _live(self) -> Sequence[JobRecord]:
        live = tuple(status for status in Status if not status.terminal)
        return (await self.store.jobs(JobFilter(DEFAULT, live), 1_000))[0]

    async def _end_all(self) -> None:
        """Jobs that nobody can do are cancelled: then no job is left that does not end."""
        async with asyncio.timeout(GUARD):
            while records := await self._live():
                for record in records:
                    with suppress(HolonError):
                        await self.engine.jobs.cancel(ME, record.job.id)
                await asyncio.sleep(0.01)

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self.store.__aexit__(None, None, None)
        del self.good, self._running

    def _names(self) -> list[str]:
        own = asyncio.current_task(self._loop)
        return sorted(task.get_name() for task in asyncio.all_tasks(self._loop) if task is not own)


def _rows(tables: Tables) -> Iterable[WorkerRow]:
    return tables.workers.values()


@contextmanager
def a_world(file: Path | None = None) -> Iterator[World]:
    """A world, looked over when the last example was good, and closed in any case."""
    world = World(file)
    try:
        yield world
        world.check_over()
    finally:
        world.close()


class GoodWorker:
    """Serves its skills with an echo, and nothing that others do disturbs it."""

    def __init__(self, world: World, worker_id: str, *skills: str) -> None:
        self._world = world
        self._worker_id = worker_id
        self._skills = skills
        self.busy = 0
        self._stream = Stream(self._hear)
        self._beats = 0

    async def join(self) -> None:
        """Open its session."""
        self._serving = self._world.serve(self._stream)
        offered = worker_pb2.Catalog(offerings=[worker_pb2.Offering(skill=skill) for skill in self._skills])
        hello = worker_pb2.Hello(worker_id=self._worker_id, credits=4, catalog=offered)
        hello.capabilities.append(types_pb2.CAPABILITY_CANCEL)
        self._stream.say(Request(hello=hello))
        await self._world.until(lambda: bool(self._sessions()))
        [self.session] = self._sessions()

    async def leave(self) -> None:
        """Close it."""
        self._stream.half_close()
        await self._world.until(self._serving.done)

    def _sessions(self) -> list[EngineSession]:
        return [one for one in self._world.engine.dispatcher.sessions if one.worker_id == self._worker_id]

    def _hear(self, said: Response) -> None:
        for offer in said.task_offers.offers:
            number = json.loads(offer.params.data).get("n")
            data = types_pb2.Payload(data=json.dumps({"echo": number}).encode())
            result = worker_pb2.TaskResult(status="success", data=data)
            update = worker_pb2.TaskUpdate(task_id=offer.task_id, lease_id=offer.lease_id, result=result)
            self._stream.say(Request(task_updates=worker_pb2.TaskUpdates(updates=[update])))
            self.busy += 1
        self.busy -= len(said.update_acks.results)
        assert not said.HasField("session_error"), f"a good worker was refused: {said}"
        assert not said.HasField("go_away"), "a good worker was sent away"
