"""A node's link to its store's server: its connections, its calls, what it hears, and the time there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from holon.clock import Clock
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import Hint, StoreSettings
from holon.randomness import random_id
from holon.storage import records
from holon.storage.hints import Hints
from holon.storage.redis.arguments import Argument, settings_text
from holon.storage.redis.channel import Channel, hint_of
from holon.storage.redis.lane import RETRY_AFTER_S, Lane
from holon.storage.redis.presence import Presence, ServersTime
from holon.storage.redis.scripts import Code, code_for, load_first
from holon.storage.redis.server import Connection, Server, Strictness, ask, share_taken, version_of
from holon.telemetry.metrics import StoreMetrics

# What the keys of this release look like; another is refused.
SCHEMA = 2
PARTITIONS = 1
PREFIX = "{h:0}:"
META = f"{PREFIX}meta"
# What nodes share beside jobs has a slot of its own.
SHARED_PREFIX = "{h:r}:"
SHARED_META = f"{SHARED_PREFIX}meta"
# New jobs are refused when so much of the memory is taken: the rest is for those that are there.
FULL = 0.9


class Link:
    """The link of one node, while it is entered.

    Arguments:
        server: where the store is.
        settings: who this node is, and its durations.
        clock: what says the time, for tests; None: the server's clock.
        strictness: what must have become of a call before it is answered.
        hints: where what is heard is left.
        metrics: where calls are counted.

    Attributes:
        id: the store's; empty before it is entered.
        backlog: how many bytes of history waited to be moved, when last looked at.
    """

    def __init__(
        self,
        server: Server,
        settings: StoreSettings,
        clock: Clock | None,
        strictness: Strictness,
        hints: Hints,
        metrics: StoreMetrics,
    ) -> None:
        self._server = server
        self._node = settings.node_id
        self._settings = settings_text(settings)
        self._clock = clock
        self._strictness = strictness
        self._hints = hints
        self._metrics = metrics
        self._codes: Sequence[Code] = ()
        self.id = ""
        self._taken = 0.0
        self.backlog = 0
        self._presence = Presence()
        self._time = ServersTime()
        self._lane = Lane(self._ready_connection, strictness, metrics)
        self._calls: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._given_up: asyncio.Future[StoreUnavailable] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Link({self._server}, {self._lane})"

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node.

        Raises:
            ConfigError: the server cannot be reached, is too old or set up to lose data, or holds another store.
        """
        await self._first_look()
        self._calls = asyncio.create_task(self._lane.run(), name="store-calls")
        channel = Channel(self._server, (f"{self.id}:", f"{self.id}:{self._node}"), self._heard_from_others, self._look)
        try:
            await self.call("enter")
            self._listening = asyncio.create_task(channel.run(), name="store-channel")
            await channel.listening.wait()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        await self._close()

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        self._lane.finish()
        tasks = [task for task in (self._calls, self._listening) if task is not None]
        if tasks:
            await asyncio.wait(tasks)

    @property
    def waiting(self) -> int:
        """How many calls wait to be sent."""
        return self._lane.waiting

    def hurry(self) -> None:
        """Refuse soon what a server that is away does not carry out: the node is about to end."""
        self._lane.hurry()

    async def failure(self) -> None:
        """Wait until the link is closed; raises StoreUnavailable when the store is lost for good, or given up."""
        if self._calls is not None:
            ends: list[asyncio.Future[Any]] = [self._calls, self._given_up]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._given_up.done():
                raise self._given_up.result()
            if not self._calls.cancelled() and (error := self._calls.exception()) is not None:
                raise error

    def give_up(self, error: StoreUnavailable) -> None:
        """This node cannot work with what the store holds: whoever waits for its failure hears so."""
        if not self._given_up.done():
            self._given_up.set_result(error)

    # Connections -----------------------------------------------------------------------------------------------

    async def _first_look(self) -> None:
        try:
            connection = await self._server.connect()
            try:
                version = await version_of(connection, self._strictness)
                self._codes = code_for(version)
                code = await load_first(connection, self._codes)
                [known] = await ask(
                    connection, (*code.call("start"), 1, META, random_id(), SCHEMA, PARTITIONS, records.SCHEMA)
                )
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError) as error:
            raise ConfigError(f"the Redis of STORAGE_URI cannot be reached: {error}") from error
        if isinstance(known, Exception):
            raise ConfigError(f"the Redis of STORAGE_URI cannot hold a store: {known}") from known
        store, schema, partitions, time, newest = known
        if int(schema) != SCHEMA:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI is of schema {int(schema)}, and this release reads {SCHEMA}"
            )
        if int(partitions) != PARTITIONS:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI has {int(partitions)} partitions, and this node {PARTITIONS}"
            )
        if int(newest) > records.SCHEMA:
            raise ConfigError(
                f"the store in the Redis of STORAGE_URI has records of schema {int(newest)}, and this release reads "
                f"{records.SCHEMA} at most; start the newer release, of which a node has been here"
            )
        self.id = store.decode()
        if self._clock is not None:
            self._clock.not_before(int(time))

    async def _ready_connection(self) -> tuple[Connection, bytes, Code]:
        connection = await self._server.connect()
        try:
            code = await load_first(connection, self._codes)
            [arrived] = await ask(connection, (*code.call("arrive"), 1, META, self.id, self._node))
            if isinstance(arrived, RedisError):
                raise arrived
            found, number = arrived
            if found != self.id.encode():
                raise StoreUnavailable(
                    "the Redis of STORAGE_URI has lost the store, or holds another; restore it and start again"
                )
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection, number, code

    # Calls -----------------------------------------------------------------------------------------------------

    async def call(self, name: str, *given: Argument, new_work: bool = False) -> Any:
        """Call an operation that writes; what it says of what waits is left as a hint.

        Arguments:
            new_work: whether it only adds work, and is the first to be refused.
        Raises:
            StoreUnavailable: it did not happen, or its reply was lost.
        """
        if new_work and self._taken >= FULL:
            raise StoreUnavailable(
                f"the Redis of the store has {self._taken:.0%} of its maxmemory taken; new jobs wait for room",
                retry_after=RETRY_AFTER_S,
            )
        return await self._called(name, self._command(given), new_work)

    async def call_shared(self, name: str, *given: Argument) -> Any:
        """Call an operation about what nodes share beside jobs; otherwise as `call`."""
        return await self.call_at(SHARED_META, name, *given)

    async def call_at(self, meta: str, name: str, *given: Argument) -> Any:
        """Call an operation about what is beside this key; otherwise as `call`."""
        return await self._called(name, self._command(given, meta), False)

    async def _called(self, name: str, command: tuple[Any, ...], new_work: bool) -> Any:
        time, words, answer = await self._lane.submit(command, name, new_work=new_work)
        self._time.heard(time)
        if words:
            self._heard(words.decode())
        return answer

    def tell(self, name: str, *given: Argument) -> None:
        """Call an operation that writes, soon, and hear nothing of it."""
        self._lane.send(self._command(given), name)

    def _command(self, given: tuple[Argument, ...], meta: str = META) -> tuple[Any, ...]:
        now = "" if self._clock is None else self._clock.now_ms()
        return (1, meta, now, self._node, random_id(), self._settings, *given)

    async def read(self, name: str, *given: Argument) -> Any:
        """Call an operation that only reads; raises as `call`."""
        return await self._lane.submit((1, META, *given), name)

    async def ask(self, *command: Argument) -> Any:
        """Send a command that only reads; raises as `call`."""
        return await self._lane.submit(command)

    def now(self) -> int:
        """The store's time, epoch milliseconds."""
        return self._time.now_ms() if self._clock is None else self._clock.now_ms()

    def _heard_from_others(self, message: str) -> None:
        sender, _, words = message.partition(" ")
        if sender != self._node:
            # A reply that is under way may be older than this, and say that there is nothing.
            self._lane.after_replies(lambda: self._heard(words))

    def _heard(self, words: str) -> None:
        hint = hint_of(words, self._hints.watched)
        if hint is not None:
            self._hints.give(hint)

    async def _look(self, first: bool) -> None:
        watchful = self._presence.looked(first)
        words, self.backlog = await self.call("look", "1" if watchful else "")
        self._heard(words.decode())
        if first:
            # What was said while nobody listened is not said again.
            self._hints.give(Hint(jobs=frozenset(self._hints.watched), documents=frozenset(self._hints.kinds)))
        self._taken = share_taken(await self.ask("INFO", "memory"))
