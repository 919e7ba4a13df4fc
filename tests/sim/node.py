"""The simulator: a node, which is the real engine and worker door over the real core and a simulated store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

import grpc
import grpc.aio

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.reputation import Rules
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.errors import ConfigError, StoreBroken, Unavailable
from holon.ports import StoreSettings
from holon.security.admission import Admission
from holon.storage.nodes import NodesStorage
from holon.stores.port import RowStore
from holon.transports.grpc.caller import called_by
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.grpc.worker_door import WorkerDoor
from holon.wire.trees import read_summary
from tests.fuzz.streams import Stream
from tests.sim.loop import Process
from tests.sim.store import Server, SimRows

T = TypeVar("T")

TOKEN = "the-token-of-all-workers"
# Milliseconds.
LEASE, OFFER = 4_000, 1_500
SILENCE_S = 6.0
ENGINE = EngineSettings(concurrent_jobs=20, retry_first=50, retry_longest=500, reputation=Rules(threshold=0.0))
# How long a caller waits for an answer (seconds).
PATIENCE_S = 3.0
STARTED_MS = 1_800_000_000_000


def relay() -> Blueprint:
    """Two tasks, one after the other; the job ends with what they answered."""
    blueprint = Blueprint("relay", api_endpoint="/relay", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
        actions.dispatch_task("t", {"n": initial_data["n"]}, transitions={"success": "again"})

    @blueprint.handler()
    async def again(actions: ActionFactory, state_history: dict[str, Any]) -> None:
        actions.dispatch_task("t", {"n": state_history["n"] + 1}, transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end(state_history: dict[str, Any]) -> dict[str, Any]:
        return {"n": state_history["n"]}

    return blueprint


class SimClock:
    """A machine's clock, which is wrong by some seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_ms: int) -> None:
        self._loop = loop
        self._offset = STARTED_MS + skew_ms

    def now_ms(self) -> int:
        return int(self._loop.time() * 1000) + self._offset

    def not_before(self, floor_ms: int) -> None:
        self._offset = max(self._offset, floor_ms - int(self._loop.time() * 1000))

    def wall_ms(self) -> int:
        return self.now_ms()

    def on_jump(self, listener: Callable[[], object]) -> None:
        pass


class SimStorage(NodesStorage):
    """The store of a process, over its way to the server."""

    def __init__(self, settings: StoreSettings, clock: SimClock, rows: SimRows) -> None:
        super().__init__(settings, clock)
        self._way = rows

    def _open_rows(self) -> RowStore:
        return self._way


class Lost(Exception):
    """A caller got no answer: what it asked for may have been carried out."""


class Node:
    """One node. Whoever runs it starts it again when it has ended.

    Attributes:
        engine: what it runs, while it is ready.
    """

    def __init__(self, name: str, server: Server, dice: random.Random, outside: Context) -> None:
        self.name = name
        self.engine: Engine | None = None
        self.door: WorkerDoor
        self.rows: SimRows
        self.starts = 0
        self._server = server
        self._dice = dice
        self._outside = outside
        self._process = Process(name)
        # What was killed must stay: where it is thrown away, its `finally` would run.
        self._killed: list[Process] = []
        self._admission: Admission
        self._ended = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Node({self.name}, {self._process})"

    async def supervise(self) -> None:
        """Run it, and start it again whenever it has ended; in nobody's process."""
        while True:
            self.starts += 1
            self._killed.append(self._process)
            self._process = Process(f"{self.name}.{self.starts}")
            running = self._process.spawn(self._run())
            self._ended.clear()
            running.add_done_callback(self._note_end, context=self._outside)
            await self._ended.wait()
            self.engine = None
            error = running.exception() if running.done() and not running.cancelled() else None
            if error is not None and not isinstance(error, StoreBroken | Unavailable | ConfigError):
                raise error
            self._process.kill()
            await asyncio.sleep(self._dice.uniform(0.2, 2.0))

    def _note_end(self, _: object) -> None:
        self._ended.set()

    def kill(self) -> None:
        """End its process as SIGKILL does."""
        self._process.kill()
        self.engine = None
        self._ended.set()

    async def freeze(self, seconds: float) -> None:
        """Stop its process for a while, as SIGSTOP does."""
        process = self._process
        process.freeze()
        await asyncio.sleep(seconds)
        process.go_on()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        clock = SimClock(loop, self._dice.randrange(-30_000, 30_000))
        self.rows = SimRows(self._server, self._outside)
        settings = StoreSettings(self.name, lease=LEASE, offer=OFFER)
        async with SimStorage(settings, clock, self.rows) as store:
            engine = Engine(store, settings, ENGINE, read_told=read_summary)
            engine.blueprints.register_all([relay()])
            holarchy = Holarchy(store, "simulated", 8)
            self._admission = Admission(clock, shared=TOKEN)
            door = WorkerDoorSettings(
                node_id=self.name, heartbeat=1.0, lease=LEASE / 1000, offer=OFFER / 1000, silence=SILENCE_S
            )
            self.door = WorkerDoor(engine.workers, door, None, self._admission, clock, holarchy, engine.trees)
            self.engine = engine
            running = asyncio.ensure_future(engine.run())
            failing = asyncio.ensure_future(store.failure())
            await asyncio.wait([running, failing], return_when=asyncio.FIRST_COMPLETED)
            failed = failing if failing.done() else running
            for one in (running, failing):
                one.cancel()
            await failed

    # What others ask of it ---------------------------------------------------------------------------------------

    async def ask(self, call: Callable[[Engine], Awaitable[T]], patience: float = PATIENCE_S) -> T:
        """Call its engine over a network, from outside.

        Arguments:
            patience: how long the answer is waited for (seconds).
        Raises:
            Lost: there was no answer.
            HolonError: its answer.
        """
        engine = self.engine
        if engine is None:
            raise Lost
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[T] = loop.create_future()

        async def answer() -> None:
            try:
                found = await call(engine)
            except Exception as error:  # noqa: BLE001  as it would be told
                loop.call_later(self._dice.uniform(0.0005, 0.002), fail, error, context=self._outside)
            else:
                loop.call_later(self._dice.uniform(0.0005, 0.002), succeed, found, context=self._outside)

        def succeed(found: T) -> None:
            if not reply.done():
                reply.set_result(found)

        def fail(error: Exception) -> None:
            if not reply.done():
                reply.set_exception(error)

        self._spawn(answer())
        try:
            async with asyncio.timeout(patience):
                return await reply
        except TimeoutError:
            raise Lost from None

    def serve(self, stream: Stream) -> Process:
        """Serve a worker's stream, as grpc would; the process that does."""

        async def serving() -> None:
            call: Any = stream
            with suppress(grpc.aio.AbortError):
                called_by(self._admission.by_token(TOKEN))
                await self.door._serve(None, call)
                stream.ended = grpc.StatusCode.OK

        self._spawn(serving())
        return self._process

    def _spawn(self, call: Coroutine[Any, Any, None]) -> None:
        task = self._process.spawn(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
