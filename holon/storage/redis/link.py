"""A node's link to a partition of its store: its connections, what it hears, and whether it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from holon.clock import Clock
from holon.errors import StoreUnavailable
from holon.ports import Hint
from holon.randomness import random_id
from holon.storage.hints import Hints
from holon.storage.redis.arguments import Argument
from holon.storage.redis.calls import Calls, Ears
from holon.storage.redis.channel import Channel, hint_of
from holon.storage.redis.keys import Keys
from holon.storage.redis.lane import RIDE_OUT_S, Lane
from holon.storage.redis.opening import Found
from holon.storage.redis.presence import Presence, ServersTime
from holon.storage.redis.scripts import functions
from holon.storage.waiting import RETRY_AFTER_S
from holon.stores.redis_servers import Connection, Place, Strictness, ask, explained, refusal_of
from holon.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)


class Link(Calls):
    """The link of one node to one partition, while it is entered.

    Arguments:
        server: where the partition is.
        keys: its keys.
        found: what it was found to be.
        node: who this node is.
        settings: the durations and limits that operations go by.
        clock: what says the time, for tests; None: the server's clock.
        strictness: what must have become of a call before it is answered.
        ears: who hears what is said.
        hints: what is watched.
        metrics: where calls are counted.

    Attributes:
        id: the partition's; that of the first is the store's.
        backlog: how many bytes of history waited to be moved, when last looked at.
        differing: nodes that were here when it came, and move history where this one does not, or the other way round.
    """

    def __init__(
        self,
        server: Place,
        keys: Keys,
        found: Found,
        node: str,
        settings: str,
        clock: Clock | None,
        strictness: Strictness,
        ears: Ears,
        hints: Hints,
        metrics: StoreMetrics,
    ) -> None:
        super().__init__(
            Lane(self._ready_connection, strictness, metrics, self._disown),
            keys,
            node,
            settings,
            clock,
            ServersTime(),
            ears,
            hints,
        )
        self._server = server
        self._strictness, self._metrics = strictness, metrics
        self.id = found.id
        # By this the server tells a later process of the same node from this one.
        self._process = random_id()
        # Its last connection's; empty until there was one.
        self._number = b""
        self._objection = ""
        self.backlog = 0
        self.differing: tuple[str, ...] = ()
        self._presence = Presence()
        self._calls: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._given_up: asyncio.Future[StoreUnavailable] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Link({self._server}, {self._lane})"

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node.

        Raises:
            StoreUnavailable: the partition is away, or is not this store's any more.
        """
        self._calls = asyncio.create_task(self._lane.run(), name="store-calls")
        channel = Channel(self._server, (f"{self.id}:", f"{self.id}:{self._node}"), self._heard_from_others, self._look)
        try:
            self.differing = tuple(node.decode() for node in await self.call("enter"))
            self._listening = asyncio.create_task(channel.run(), name="store-channel")
            await self._until_listening(channel)
        except BaseException:
            await self._close()
            raise
        return self

    @staticmethod
    async def _until_listening(channel: Channel) -> None:
        try:
            async with asyncio.timeout(RIDE_OUT_S):
                await channel.listening.wait()
        except TimeoutError as error:
            raise StoreUnavailable(
                "this node cannot listen to others at the Redis of STORAGE_URI: "
                f"{explained(channel.failure) if channel.failure else 'no answer came'}"
            ) from error

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
            # Who waits for the failure hears of it; where nobody does, it is over with the link.
            for task in (await asyncio.wait(tasks))[0]:
                task.cancelled() or task.exception()

    @property
    def away(self) -> bool:
        """Whether the partition did not answer when it was last asked."""
        return self._lane.away

    @property
    def full(self) -> bool:
        """Whether it is to be given no new jobs."""
        return bool(self._objection)

    @property
    def waiting(self) -> int:
        """How many calls wait to be sent."""
        return self._lane.waiting

    def hurry(self) -> None:
        """Refuse soon what a server that is away does not carry out: the node is about to end."""
        self._lane.hurry()

    async def failure(self) -> None:
        """Wait until the link is closed; raises StoreUnavailable when the store is lost for good, or given up."""
        # Who listens no more would miss what other nodes leave to it, for ever and without a word.
        tasks = [task for task in (self._calls, self._listening) if task is not None]
        if tasks:
            ends: list[asyncio.Future[Any]] = [*tasks, self._given_up]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._given_up.done():
                raise self._given_up.result()
            for task in tasks:
                _raise_from(task)

    def give_up(self, error: StoreUnavailable) -> None:
        """This node cannot work with what the store holds: whoever waits for its failure hears so."""
        if not self._given_up.done():
            self._given_up.set_result(error)

    async def _ready_connection(self) -> tuple[Connection, bytes]:
        connection = await self._server.connect()
        try:
            await functions().load(connection)
            given = (*self._keys.declared, self.id, self._node, self._process, self._number)
            [arrived] = await ask(connection, (*functions().call("arrive"), *given))
            if isinstance(arrived, RedisError):
                raise arrived
            found, number = arrived
            if found != self.id.encode():
                raise StoreUnavailable(
                    "the Redis of STORAGE_URI has lost the store, or holds another; restore it and start again"
                )
            if not number:
                raise StoreUnavailable(
                    f"another process runs as {self._node} on the Redis of STORAGE_URI, and came later; give every "
                    "node an INSTANCE_ID of its own"
                )
            self._number = number
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection, number

    def _disown(self, marks: Sequence[str]) -> None:
        """Give jobs back that were handed over by replies which never came; by `marks` begin their claims."""

        def replied(reply: Any) -> None:
            self._lane.given_back(set(marks))
            self._said(reply)

        self._lane.send(self._command((len(marks), *marks)), "disown", replied)

    async def call(self, name: str, *given: Argument, new_work: bool = False) -> Any:
        """As `Calls.call`; what only adds work is refused where there is no room for it."""
        if new_work and self.full:
            raise StoreUnavailable(self._objection, retry_after=RETRY_AFTER_S)
        return await super().call(name, *given, new_work=new_work)

    def beside(self, server: Place, keys: Keys) -> SharedLink:
        """A link like this to keys that are elsewhere."""
        return SharedLink(
            server,
            self._strictness,
            self._metrics,
            keys=keys,
            node=self._node,
            settings=self._settings,
            clock=self._clock,
            ears=self._ears,
            hints=self._hints,
        )

    def _heard_from_others(self, message: str) -> None:
        sender, _, words = message.partition(" ")
        if sender != self._node:
            # A reply that is under way may be older than this, and say that there is nothing.
            self._lane.after_replies(lambda: self._heard(words))

    async def _look(self, first: bool) -> None:
        watchful = self._presence.looked(first)
        words, self.backlog = await self.call("look", "1" if watchful else "")
        self._ears.looked(hint_of(words.decode(), self._hints.watched) or Hint())
        if first:
            # What was said while nobody listened is not said again.
            self._ears.heard(Hint(jobs=frozenset(self._hints.watched), documents=frozenset(self._hints.kinds)))
        objection = refusal_of(await self._lane.submit(("INFO", "memory")))
        if objection and not self._objection:
            log.warning("%s", objection)
        elif self._objection and not objection:
            log.info("the Redis of the store is given new jobs again")
        self._objection = objection


class SharedLink(Calls):
    """The link to what nodes share beside jobs, where that is on another server than the partitions.

    Arguments:
        server: where it is.
        strictness, metrics: as those of `Link`.
        caller: who calls, and who hears what is said: as the rest of those of `Calls`.
    """

    def __init__(self, server: Place, strictness: Strictness, metrics: StoreMetrics, **caller: Any) -> None:
        super().__init__(lane=Lane(self._ready_connection, strictness, metrics), time=ServersTime(), **caller)
        self._server = server
        self._calls: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Let calls be made."""
        self._calls = asyncio.create_task(self._lane.run(), name="store-shared-calls")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        self._lane.finish()
        if self._calls is not None:
            await asyncio.wait([self._calls])

    def hurry(self) -> None:
        """Refuse soon what a server that is away does not carry out."""
        self._lane.hurry()

    async def failure(self) -> None:
        """Wait until the link is closed; raises what ended it, if that was something else."""
        if self._calls is not None:
            await asyncio.wait([self._calls])
            _raise_from(self._calls)

    async def _ready_connection(self) -> tuple[Connection, bytes]:
        connection = await self._server.connect()
        try:
            await functions().load(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        # These calls come in no order that a number would keep.
        return connection, b""


def _raise_from(task: asyncio.Task[None]) -> None:
    """Raise what has ended a task, if anything has."""
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        raise error
