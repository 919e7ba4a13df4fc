"""The worker door: one session of one worker, from its first message to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from holon.clock import Clock
from holon.domain.value import replace
from holon.engine.holarchy import Holarchy
from holon.engine.members import Joining, Member
from holon.engine.rates import Call, RateLimits
from holon.engine.trees import Trees
from holon.engine.workers import Workers
from holon.errors import (
    FailedPrecondition,
    HolonError,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
)
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.security.admission import Admission, Caller
from holon.telemetry.metrics import StreamMetrics
from holon.transports.grpc.child_holon import ChildHolon
from holon.transports.grpc.child_tree import ChildTree
from holon.transports.grpc.clerk import Clerk
from holon.transports.grpc.frames import Context, Frames
from holon.transports.grpc.hello import hello_invalid, holon_of, joining_of, reads_of
from holon.transports.grpc.incoming import Incoming
from holon.transports.grpc.outgoing import Outgoing
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.grpc.standing import Standing
from holon.transports.grpc.watch import watch
from holon.transports.grpc.welcome import welcome_of
from holon.wire.arrivals import Arrivals
from holon.wire.grpc_status import told
from holon.wire.stream import StreamWriter

log = logging.getLogger(__name__)

# How long what is queued may take to be sent, once the stream is to end.
FAREWELL_S = 5.0
# How long the end of a stream waits for the frame that is on its way, seconds.
LAST_WRITE_S = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends: with OK, or an error. `last_words`: after what is queued, or at once."""

    error: HolonError | None
    last_words: bool


class Session:
    """The node's end of one stream.

    Arguments:
        context: the call's.
        caller: who opened the stream.
        arrivals: where its first message takes a place until it is there.
        admission: who says whether it is still let in.
        metrics: where sessions and their messages are counted.
        rates: lets messages pass as far as the worker's limit goes; None: all.
        holarchy: the place of this node's holon, for workers that are holons.
        trees: who asks such workers about their jobs.

    Attributes:
        opened: whether it has come so far that the worker was welcomed.
        worker_id: whose it is, once that is proven; empty before.
    """

    def __init__(
        self,
        context: Context,
        workers: Workers,
        settings: WorkerDoorSettings,
        clock: Clock,
        caller: Caller,
        arrivals: Arrivals,
        admission: Admission,
        metrics: StreamMetrics,
        rates: RateLimits | None,
        holarchy: Holarchy,
        trees: Trees,
    ) -> None:
        self._frames = Frames(context, metrics)
        self._workers = workers
        self._settings = settings
        self._clock = clock
        self._arrivals = arrivals
        self._standing = Standing(admission, caller, self._start)
        self._metrics = metrics
        self._rates = rates
        self._holarchy = holarchy
        self._trees = trees
        self._child: ChildHolon | None = None
        self._tree: ChildTree | None = None
        self._member: Member | None = None
        self.opened = False
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()

    @property
    def worker_id(self) -> str:
        """Whose it is, once that is proven; empty before."""
        return self._standing.worker_id

    def __repr__(self) -> str:
        return f"Session({self.worker_id or 'opening'}, {'ending' if self._ending.done() else 'open'})"

    def end(self, error: HolonError | None, last_words: bool = True) -> None:
        """End the stream; the first word counts. `last_words`: after what is queued, or at once."""
        if not self._ending.done():
            self._ending.set_result(Ending(error, last_words))

    def look_again(self) -> None:
        """Who is let in has changed: end the stream at once if its worker is not."""
        try:
            self._standing.check()
            if self._child is not None:
                self._standing.check_holon()
        except HolonError as error:
            self.end(error, False)

    def chain_changed(self) -> None:
        """The chain of holons above has become another."""
        if self._child is not None and self._member is not None:
            move = partial(self._workers.rotate, self._member, round(self._settings.moving * 1000))
            self._child.chain_changed(self.end, move)

    async def serve(self) -> None:
        """Serve the stream to its end.

        Raises:
            HolonError: the status with which the stream is to end; none, when the worker left as it should.
        """
        async with self._arrivals.place(self._standing.caller.sender):
            hello = await self._frames.hello(self._settings.hello)
        self._standing.identify(hello)
        if self._workers.draining:
            raise Unavailable("this node is shutting down; connect to another", code="DRAINING", retry_after=1.0)
        if self._rates is not None:
            await self._rates.admit(Call.OPENING, self.worker_id)
        max_message_bytes = min(reads_of(hello), self._settings.max_message_bytes)
        joining = joining_of(hello, self.worker_id, self._standing.proof, max_message_bytes)
        self._child = self._child_of(hello)
        if self._child is not None:
            lease, execution = (round(s * 1000) for s in (self._settings.child_lease, self._settings.child_execution))
            joining = replace(
                joining,
                lease=lease,
                execution=execution,
                holon=self._child.identity,
                keeps_limits=types_pb2.CAPABILITY_SKILL_LIMIT in hello.capabilities,
                keeps_budgets=types_pb2.CAPABILITY_BUDGET in hello.capabilities,
                keeps_resources=types_pb2.CAPABILITY_RESOURCE_REQUIREMENTS in hello.capabilities,
            )
        async with self._child.linked() if self._child is not None else nullcontext():
            await self._serve(hello, joining, max_message_bytes)

    def _child_of(self, hello: worker_pb2.Hello) -> ChildHolon | None:
        identity = holon_of(hello, self.worker_id, is_holon=self._standing.is_holon)
        return None if identity is None else ChildHolon(self._holarchy, self.worker_id, identity)

    async def _serve(self, hello: worker_pb2.Hello, joining: Joining, max_message_bytes: int) -> None:
        writer = StreamWriter(self._frames.write, max_message_bytes=max_message_bytes)
        can_stop = types_pb2.CAPABILITY_CANCEL in hello.capabilities
        # One that lists nothing knows of no more than offers and results: its offers would lapse while it does them.
        outgoing = Outgoing(writer, self._workers, can_stop, bool(hello.capabilities), self.end, self._metrics)
        try:
            member = await self._workers.join(joining, outgoing)
        except InvalidArgument as error:
            raise hello_invalid(error) from error
        self._member = member
        session_id = member.session.session_id
        facts = {"worker_id": self.worker_id, "session_id": session_id}
        log.info("worker %s: session %s opened", self.worker_id, session_id, extra=facts)
        self.opened = True
        self._metrics.opened.add()
        why, how = "LOST", "the connection was lost"
        reason: HolonError | None = None
        try:
            now = self._clock.now_ms()
            outgoing.open(member, welcome_of(hello, member, self._standing, self._child, self._settings, now))
            self._workers.welcomed(member)
            if self._child is not None:
                answers = types_pb2.CAPABILITY_HOLON in hello.capabilities
                before = self._trees.link(self.worker_id)
                self._tree = self._child.tree(
                    self._trees.below, outgoing.ask, outgoing.resolve, answers=answers, before=before
                )
                self._trees.join(self.worker_id, self._tree)
            reason = await self._run(hello, member, writer, outgoing)
            why, how = (
                ("LEFT", "the worker left") if reason is None else (reason.code, f"{reason.code}: {reason.message}")
            )
        finally:
            log.info("worker %s: session %s ended: %s", self.worker_id, session_id, how, extra=facts)
            self._metrics.ended.add(why)
            if self._tree is not None:
                self._trees.leave(self.worker_id, self._tree)
            outgoing.leave()
            if isinstance(reason, PermissionDenied):
                # It does not come back: what it has goes to others now, and not when its leases end.
                self._workers.expel(member)
            await self._workers.leave(member)
        if reason is not None:
            raise reason

    # The stream --------------------------------------------------------------------------------------------------

    async def _run(
        self, hello: worker_pb2.Hello, member: Member, writer: StreamWriter, outgoing: Outgoing
    ) -> HolonError | None:
        clerk = Clerk(self._workers, member, outgoing, self._tree)
        incoming = Incoming(
            self._workers,
            member,
            clerk,
            outgoing,
            self._clock,
            hello.catalog.sequence,
            self._rates,
            partial(self._standing.renew, outgoing) if self._standing.renews else None,
            self._tree,
        )
        reading = self._start(self._read(incoming), "reader")
        writing = self._start(writer.run(), "writer")
        working = self._start(clerk.run(), "clerk")
        watching = self._start(watch(member, self._frames, self._standing, self._workers, self._settings), "watch")
        try:
            ending = await self._ending
            reading.cancel()
            watching.cancel()
            if ending.last_words:
                await _last_words(clerk, working, writer, writing)
            # The library takes no status of a call whose first write was cut off: its client would wait for ever.
            writer.stop()
            await asyncio.wait((writing,), timeout=LAST_WRITE_S)
            return ending.error if ending.error is not None else _half_closed(incoming, outgoing, member)
        finally:
            tasks = [reading, writing, working, watching]
            if self._standing.renewing is not None:
                tasks.append(self._standing.renewing)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, part: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(part, name=f"session-{name}")
        task.add_done_callback(partial(self._part_over, name))
        return task

    def _part_over(self, name: str, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            # Whoever did that: without one of its parts a stream is of no use.
            self.end(Unavailable("the node ended this stream; open another", code="STREAM_LOST"), False)
        elif isinstance(error := task.exception(), Exception):
            self.end(told(error, f"the {name} of worker {self.worker_id}'s session"), False)

    async def _read(self, incoming: Incoming) -> None:
        while not self._ending.done():
            raw = await self._frames.read()
            if raw is None:
                self.end(None)
                return
            await incoming.take(raw)


async def _last_words(
    clerk: Clerk, working: asyncio.Task[None], writer: StreamWriter, writing: asyncio.Task[None]
) -> None:
    """Store and answer what came in, and send what waits."""
    try:
        async with asyncio.timeout(FAREWELL_S):
            clerk.close()
            await asyncio.wait((working,))
            writer.close()
            await asyncio.wait((writing,))
    except TimeoutError:
        pass


def _half_closed(incoming: Incoming, outgoing: Outgoing, member: Member) -> HolonError | None:
    """What a half-close says: a worker leaves after Drain, or was sent away, or has nothing; else it is lost."""
    held = len(member.session.leases)
    if not held or (outgoing.sent_away and not incoming.drained):
        return None
    return FailedPrecondition(
        f"the worker half-closed the stream while it held {held} tasks; they run again when their leases end",
        code="TASKS_HELD",
    )
