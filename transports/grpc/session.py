"""The worker door: one session of one worker, from its first message to its end."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Coroutine
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.message import DecodeError

from holon.clock import Clock
from holon.domain.value import replace
from holon.engine.holarchy import Holarchy
from holon.engine.rates import Call, RateLimits
from holon.engine.trees import Trees
from holon.engine.workers import Joining, Member, Workers
from holon.errors import (
    FailedPrecondition,
    HolonError,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.security.admission import Admission, Caller
from holon.telemetry.metrics import StreamMetrics
from holon.wire.grpc_status import told
from holon.wire.stream import MAX_MESSAGE_BYTES, StreamWriter
from holon.wire.values import duration, timestamp
from holon.wire.worker import resumed_leases
from transports.grpc.capabilities import capabilities
from transports.grpc.child_holon import ChildHolon
from transports.grpc.child_tree import ChildTree
from transports.grpc.clerk import Clerk
from transports.grpc.hello import hello_invalid, holon_of, joining_of, worker_of
from transports.grpc.incoming import Incoming
from transports.grpc.outgoing import Outgoing
from transports.grpc.settings import WorkerDoorSettings

log = logging.getLogger(__name__)

PROTOCOL_VERSION = "1.0"
# How long what is queued may take to be sent, once the stream is to end.
FAREWELL_S = 5.0
# How long the end of a stream waits for the frame that is on its way, seconds.
LAST_WRITE_S = 1.0
_PAST_S = 0.001
# A timer this late says that this process stood still, not that the worker did.
_LATE_S = 1.0

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


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
        admission: who says whether it is still let in.
        metrics: where sessions and their messages are counted.
        rates: lets messages pass as far as the worker's limit goes; None: all.
        holarchy: the place of this node's holon, for workers that are holons; None: none is let in.
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
        admission: Admission,
        metrics: StreamMetrics,
        rates: RateLimits | None,
        *,
        holarchy: Holarchy | None = None,
        trees: Trees | None = None,
    ) -> None:
        self._context = context
        self._workers = workers
        self._settings = settings
        self._clock = clock
        self._caller = caller
        self._admission = admission
        self._metrics = metrics
        self._rates = rates
        self._holarchy = holarchy
        self._trees = trees
        self._child: ChildHolon | None = None
        self._tree: ChildTree | None = None
        self._member: Member | None = None
        self._renewal: tuple[int, str] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renewed = asyncio.Event()
        self.opened = False
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self._heard = self._loop.time()
        self._writing = math.inf
        self.worker_id = ""

    def __repr__(self) -> str:
        return f"Session({self.worker_id or 'opening'}, {'ending' if self._ending.done() else 'open'})"

    def end(self, error: HolonError | None, last_words: bool = True) -> None:
        """End the stream; the first word counts. `last_words`: after what is queued, or at once."""
        if not self._ending.done():
            self._ending.set_result(Ending(error, last_words))

    def look_again(self) -> None:
        """Who is let in has changed: end the stream at once if its worker is not."""
        try:
            self._admission.check(self._caller, self.worker_id)
            if self._child is not None and not self._admission.is_holon(self.worker_id):
                raise PermissionDenied(f"worker {self.worker_id!r} is no longer a holon here", code="NOT_A_HOLON")
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
        hello = await self._hello()
        self.worker_id = worker_of(hello, self._caller, self._admission)
        if self._workers.draining:
            raise Unavailable("this node is shutting down; connect to another", code="DRAINING", retry_after=1.0)
        if self._rates is not None:
            await self._rates.admit(Call.OPENING, self.worker_id)
        joining = joining_of(hello, self.worker_id)
        self._child = self._child_of(hello)
        if self._child is not None:
            lease, execution = (round(s * 1000) for s in (self._settings.child_lease, self._settings.child_execution))
            joining = replace(joining, lease=lease, execution=execution, holon=self._child.identity)
        async with self._child.linked() if self._child is not None else nullcontext():
            await self._serve(hello, joining)

    def _child_of(self, hello: worker_pb2.Hello) -> ChildHolon | None:
        identity = holon_of(hello, self.worker_id, is_holon=self._admission.is_holon(self.worker_id))
        if identity is None:
            return None
        if self._holarchy is None:
            raise PermissionDenied("this node takes no holons as workers", code="NOT_A_HOLON")
        return ChildHolon(self._holarchy, self.worker_id, identity)

    async def _serve(self, hello: worker_pb2.Hello, joining: Joining) -> None:
        limit = hello.max_message_bytes if hello.HasField("max_message_bytes") else MAX_MESSAGE_BYTES
        writer = StreamWriter(self._send, max_message_bytes=min(limit, self._settings.max_message_bytes))
        can_stop = types_pb2.CAPABILITY_CANCEL in hello.capabilities
        outgoing = Outgoing(writer, self._workers, can_stop, self.end, self._metrics)
        try:
            member = await self._workers.join(joining, outgoing)
        except InvalidArgument as error:
            raise hello_invalid(error) from error
        self._member = member
        session_id = member.session.session_id
        facts = {"worker_id": self.worker_id, "session_id": session_id}
        log.info("worker %s: session %s has opened", self.worker_id, session_id, extra=facts)
        self.opened = True
        self._metrics.opened.add()
        why, how = "LOST", "its connection was lost"
        reason: HolonError | None = None
        try:
            outgoing.open(member, self._welcome(hello, member))
            self._workers.welcomed(member)
            if self._child is not None and self._trees is not None:
                answers = types_pb2.CAPABILITY_HOLON in hello.capabilities
                self._tree = self._child.tree(self._trees.below, outgoing.ask, answers=answers)
                self._trees.join(self.worker_id, self._tree)
            reason = await self._run(hello, member, writer, outgoing)
            why, how = ("LEFT", "it left") if reason is None else (reason.code, f"{reason.code}: {reason.message}")
        finally:
            log.info("worker %s: session %s has ended: %s", self.worker_id, session_id, how, extra=facts)
            self._metrics.ended.add(why)
            if self._tree is not None and self._trees is not None:
                self._trees.leave(self.worker_id, self._tree)
            outgoing.leave()
            if isinstance(reason, PermissionDenied):
                # It does not come back: what it has goes to others now, and not when its leases end.
                self._workers.expel(member)
            await self._workers.leave(member)
        if reason is not None:
            raise reason

    async def _hello(self) -> worker_pb2.Hello:
        try:
            async with asyncio.timeout(self._settings.hello):
                raw = await self._read_frame()
        except TimeoutError:
            raise _expected_hello(f"none came within {self._settings.hello:g} s") from None
        if raw is None:
            raise _expected_hello("the stream was closed without one")
        try:
            frame = worker_pb2.SessionRequest.FromString(raw)
        except DecodeError as error:
            raise _expected_hello("the first message is malformed") from error
        if not frame.HasField("hello"):
            raise _expected_hello(f"the first message is {frame.WhichOneof('message') or 'empty, or of no known kind'}")
        return frame.hello

    def _welcome(self, hello: worker_pb2.Hello, member: Member) -> worker_pb2.Welcome:
        settings = self._settings
        welcome = worker_pb2.Welcome(
            protocol_version=PROTOCOL_VERSION,
            session_id=member.session.session_id,
            node_id=settings.node_id,
            holon_id=settings.holon_id,
            capabilities=capabilities(renews=self._admission.takes_tokens, holons=self._child is not None),
            heartbeat_interval=duration(round(settings.heartbeat * 1000)),
            silence_timeout=duration(round(settings.silence * 1000)),
            lease_duration=duration(round((settings.child_lease if self._child else settings.lease) * 1000)),
            accept_timeout=duration(round(settings.offer * 1000)),
            max_message_bytes=settings.max_message_bytes,
            max_payload_bytes=settings.max_payload_bytes,
            leases=resumed_leases(member.resumed, member.dropped),
            catalog_needed=hello.WhichOneof("offered") == "catalog_hash",
            node_time=timestamp(self._clock.now_ms()),
        )
        if (until := self._admission.check(self._caller)) < math.inf:
            welcome.session_expires_at.CopyFrom(timestamp(int(until)))
        if self._child is not None:
            self._child.tell(welcome)
        return welcome

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
            self.end,
            hello.catalog.sequence,
            self._rates,
            partial(self._take_renewal, outgoing) if self._admission.takes_tokens else None,
            self._tree,
        )
        reading = self._start(self._read(incoming), "reader")
        writing = self._start(writer.run(), "writer")
        working = self._start(clerk.run(), "clerk")
        watching = self._start(self._watch(member), "watch")
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
            if self._renewing is not None:
                tasks.append(self._renewing)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, part: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await part
            except Exception as error:  # noqa: BLE001  the outermost frame: it ends the stream, and is logged
                self.end(told(error, f"the {name} of worker {self.worker_id}'s session"), False)

        return self._loop.create_task(run(), name=f"session-{name}")

    async def _read(self, incoming: Incoming) -> None:
        while not self._ending.done():
            raw = await self._read_frame()
            if raw is None:
                self.end(None)
                return
            self._heard = self._loop.time()
            self._metrics.received.add()
            await incoming.take(raw)

    async def _watch(self, member: Member) -> None:
        """Send the worker to another stream when this one has become old.

        Raises:
            HolonError: the worker has been silent, has not read, or has not moved for too long, or is not let in
                any more.
        """
        silence = self._settings.silence
        # Spread, for a fleet may have connected at once.
        old = self._loop.time() + self._settings.rotation * random.uniform(0.9, 1)  # noqa: S311
        moving = False
        while True:
            began = self._loop.time()
            until = self._admission.check(self._caller, self.worker_id)
            silent_in = self._heard + silence - began
            if silent_in <= 0:
                raise Unavailable(f"nothing was heard for {silence:g} s", code="SILENT", retry_after=1.0)
            if self._writing + silence <= began:
                raise ResourceExhausted(f"the worker has read nothing for {silence:g} s", code="STREAM_FULL")
            if old <= began:
                if moving:
                    raise Unavailable("this stream has become old; open another", code="STREAM_OLD", retry_after=1.0)
                moving, old = True, began + self._settings.moving
                self._workers.rotate(member, round(self._settings.moving * 1000))
            # Past the end and not short of it: what is asked a moment too early would be asked once more.
            wait = min((until - self._clock.now_ms()) / 1000 + _PAST_S, silent_in, old - began)
            try:
                async with asyncio.timeout(wait):
                    await self._renewed.wait()
                self._renewed.clear()
                continue
            except TimeoutError:
                pass
            if self._loop.time() - began - wait > _LATE_S:
                forgiven = self._loop.time() - silence + _LATE_S
                self._heard, self._writing = max(self._heard, forgiven), max(self._writing, forgiven)

    def _take_renewal(self, outgoing: Outgoing, frame: int, token: str) -> None:
        """A newer token takes the place of one that was not looked at yet. Most sessions never have one."""
        self._renewal = (frame, token)
        if self._renewing is None or self._renewing.done():
            self._renewing = self._start(self._renew(outgoing), "renewal")

    async def _renew(self, outgoing: Outgoing) -> None:
        """Go on by a new access token if it is good for this worker; by the old one, where it is not."""
        while self._renewal is not None:
            (frame, token), self._renewal = self._renewal, None
            try:
                caller = await self._admission.by_bearer(self._caller, token)
                until = self._admission.check(caller, self.worker_id)
            except HolonError as error:
                outgoing.refuse(frame, error)
                continue
            self._caller = caller
            self._renewed.set()
            outgoing.renewed(until)

    async def _read_frame(self) -> bytes | None:
        """The next message; None when the worker has closed its side, or is gone: here the two look the same."""
        try:
            raw: object = await self._context.read()
        except grpc.aio.BaseError as error:
            raise _lost() from error
        return raw if isinstance(raw, bytes) else None

    async def _send(self, frame: bytes) -> None:
        self._writing = self._loop.time()
        try:
            await self._context.write(frame)
            self._metrics.sent.add()
        except grpc.aio.BaseError as error:
            raise _lost() from error
        self._writing = math.inf


async def _last_words(
    clerk: Clerk, working: asyncio.Task[None], writer: StreamWriter, writing: asyncio.Task[None]
) -> None:
    """Store and answer what came in, and send what waits."""
    try:
        async with asyncio.timeout(FAREWELL_S):
            clerk.close()
            await working
            writer.close()
            await writing
    except TimeoutError:
        pass


def _half_closed(incoming: Incoming, outgoing: Outgoing, member: Member) -> HolonError | None:
    """What a half-close says: a worker leaves after Drain, or was sent away, or has nothing; else it is lost."""
    held = len(member.session.leases)
    if not held or (outgoing.sent_away and not incoming.drained):
        return None
    return FailedPrecondition(
        f"the stream was half-closed while the worker held {held} tasks; they run again when their leases end",
        code="TASKS_HELD",
    )


def _expected_hello(reason: str) -> InvalidArgument:
    return InvalidArgument(f"a stream opens with Hello: {reason}", code="HELLO_EXPECTED")


def _lost() -> Unavailable:
    return Unavailable("the stream is gone", code="STREAM_LOST")
