"""The worker SDK: one session on one stream, from Hello to its end. It keeps nothing that must outlive it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc.aio

from holon.errors import HolonError
from holon.rxon.v1 import worker_pb2
from holon.wire.address import NodeUrl
from holon.wire.frames import frames_of
from holon.wire.stream import MAX_MESSAGE_BYTES, StreamWriter
from holon.worker.catalogs import Catalogs
from holon.worker.certificate import Certificate
from holon.worker.channel import Ended, Metadata, end_of, open_stream, sent_away, write
from holon.worker.heartbeats import EVERY_S, Heartbeats
from holon.worker.hints import Hints
from holon.worker.listener import Listener
from holon.worker.timing import Timing

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from holon.worker.channel import Call

_log = logging.getLogger("holon.worker")

_UPDATES = frames_of(worker_pb2.SessionRequest, "task_updates", "updates")

# What grpc.aio raises when a stream ends under a read or a write; a reset by the node among them looks like a cancel.
_FAILURES = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError, asyncio.CancelledError)
_CANCELLED_ENDS = 1.0
# What the node said before it knew of the session that took this one's place, which settled every lease.
_OF_LEASES = ("task_offers", "stop_tasks")
# A timer this late says that the process was stopped, or the machine asleep.
_LATE = 1.0
_SILENCE = 25.0
MAX_PAYLOAD_BYTES = 1024 * 1024


class Session:
    """One stream to a node. `open`, then `run` until it ends, then `close`.

    Arguments:
        channel: a connection of its own, which is closed with it.
        shown: the certificate that it shows: once that is renewed, another stream takes this one's place.
        metadata: what proves who we are, beside the connection.
        hints: say what to check when the node ends it.

    Attributes:
        left: set once no more offers come: the node sent GoAway, or the stream ended.
        going: the node's GoAway, when it sent one.
        end: why the stream ended, once it has.
        hello: what `open` said.
        welcome: the node's terms, once `open` returned.
    """

    def __init__(
        self,
        url: NodeUrl,
        channel: grpc.aio.Channel,
        shown: Certificate,
        metadata: Metadata,
        hints: Hints,
        listener: Listener,
        timing: Timing,
    ) -> None:
        self.url = url
        self.channel = channel
        self.shown = shown
        self.left = asyncio.Event()
        self.going: worker_pb2.GoAway | None = None
        self.end: Ended | None = None
        self.hello = worker_pb2.Hello()
        self.welcome = worker_pb2.Welcome()
        self._hints = hints
        self._listener = listener
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._call: Call = open_stream(channel, metadata)
        self._writer = StreamWriter(partial(write, self._call))
        self._updates = self._writer.lane(worker_pb2.TaskUpdate, _UPDATES)
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._connected = False
        self._welcomed = False
        self._heartbeats = Heartbeats(self._put_heartbeat, listener.alive, listener.load)
        self._catalogs = Catalogs(self.put_control, timing.retry_result)
        self._silence = _SILENCE
        self._heard = 0.0
        self._farewell: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Session({self.welcome.session_id or 'opening'}, {self.url}, {self._writer})"

    @property
    def max_message_bytes(self) -> int:
        """The largest message that the node reads."""
        return self._writer.max_message_bytes

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that the node reads."""
        return self.welcome.max_payload_bytes or MAX_PAYLOAD_BYTES

    async def open(self, hello: Callable[[], worker_pb2.Hello]) -> None:
        """Say Hello and take the node's terms.

        Arguments:
            hello: makes it, once there is a connection: what comes on an older stream after that is not in it.
        Raises:
            Ended: refused, unreachable, or no Welcome in time. The session is of no use then but to be closed.
        """
        greeting = asyncio.create_task(self._greet(hello), name="session-greeting")
        # Read, whoever raises what, and when: else it is logged as lost.
        greeting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            done, _ = await asyncio.wait((greeting,), timeout=self._timing.welcome)
        finally:
            if not greeting.done():
                self._call.cancel()
                if not self._connected:
                    # grpc.aio does not wake who waits for the connection of a call that is cancelled.
                    greeting.cancel()
                await _ended(greeting)
        if not done:
            raise Ended(f"{self.url}: no Welcome arrived within {self._timing.welcome:g} s")
        self.welcome = welcome = greeting.result()
        self._welcomed = True
        self._heard = self._loop.time()
        self._writer.max_message_bytes = welcome.max_message_bytes or MAX_MESSAGE_BYTES
        self._silence = _seconds(welcome.silence_timeout, _SILENCE)
        self._heartbeats.every = max(_seconds(welcome.heartbeat_interval, EVERY_S), self._timing.least_heartbeat)
        for warning in welcome.warnings:
            _log.warning("the node warns: %s", warning)

    async def run(self) -> None:
        """Read, write and beat until the stream ends; `end` says why. On cancel the stream is lost."""
        # Reads and writes are never cancelled: grpc would go on with them, and find their loop gone.
        lanes = [
            asyncio.create_task(self._until_broken(self._receive), name="session-reader"),
            asyncio.create_task(self._until_broken(self._send), name="session-writer"),
        ]
        self._heartbeats.say()
        try:
            await self._watch()
        except Ended as end:
            self.end = end
        finally:
            self.end = self.end or Ended(f"{self.url}: the stream was closed")
            self._fall_silent()
            self.left.set()
            self._writer.close()
            self._call.cancel()
            await _ended(*lanes)

    async def close(self) -> None:
        """Let go of the connection, whatever state it is in."""
        self._fall_silent()
        if self._farewell:
            self._farewell.cancel()
        if self._broken.done() and not self._broken.cancelled():
            self._broken.exception()
        self._call.cancel()
        await self.channel.close()

    def put(self, update: bytes) -> None:
        """Queue news of a task: an encoded TaskUpdate. Raises what `Lane.put` raises."""
        self._updates.put_encoded(update)

    def put_control(self, frame: worker_pb2.SessionRequest) -> int | None:
        """Queue a message that goes before all news of tasks. A stream that is closed or full is ended instead.

        Returns:
            its ordinal on the stream, of which Hello is 1; None: it is not sent.
        """
        try:
            return 1 + self._writer.put_control(frame)
        except HolonError as error:
            self.break_off(error.message)
            return None

    def set_catalog(self, catalog: worker_pb2.Catalog) -> None:
        """Tell the node what is offered. It stays the caller's: if it cannot be taken now, it is sent as it is then."""
        self._catalogs.say(catalog)

    def set_credits(
        self,
        credits: int,  # noqa: A002  # the protocol's word
        of_offerings: Sequence[worker_pb2.OfferingCredits],
    ) -> None:
        """Tell the node at once how many tasks it may give in all, and of single offerings."""
        self._heartbeats.credits = credits
        self._heartbeats.say(of_offerings)

    def leave(self) -> None:
        """Half-close once all that waits is sent, beat no more, and give the node a while to end the stream."""
        if self.end:
            return
        self._fall_silent()
        self._writer.close()
        self._farewell = self._loop.call_later(
            self._timing.goodbye,
            self.break_off,
            f"the stream did not end within {self._timing.goodbye:g} s of the half-close",
        )

    def move(self) -> None:
        """Have another stream take this one's place, as when the node asks for it."""
        if self.going is None and self.end is None:
            self.going = worker_pb2.GoAway(reason="MOVING")
            self.left.set()

    def break_off(self, reason: str) -> None:
        """End the stream from this side, as lost."""
        if not self._broken.done():
            self._broken.set_exception(Ended(f"{self.url}: {reason}"))

    async def _greet(self, hello: Callable[[], worker_pb2.Hello]) -> worker_pb2.Welcome:
        try:
            await self._call.wait_for_connection()
            self._connected = True
            self.hello = hello()
            await write(self._call, worker_pb2.SessionRequest(hello=self.hello).SerializeToString())
        except _FAILURES as error:
            await self._translate(error)
        while (frame := await self._read()).WhichOneof("message") != "welcome":
            if frame.HasField("go_away"):
                raise sent_away(self.url, frame.go_away)
            _log.debug("%s: ignoring a message that came before Welcome", self.url)
        return frame.welcome

    async def _until_broken(self, lane: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await lane()
        except Exception as error:  # noqa: BLE001  # the outermost frame of a loop: `run` raises it
            if not self._broken.done():
                self._broken.set_exception(error)

    async def _send(self) -> None:
        try:
            await self._writer.run()
            await self._call.done_writing()
        except _FAILURES as error:
            await self._translate(error)

    async def _receive(self) -> None:
        while True:
            frame = await self._read()
            self._heard = self._loop.time()
            self._handle(frame)

    async def _read(self) -> worker_pb2.SessionResponse:
        try:
            frame = await self._call.read()
        except _FAILURES as error:
            await self._translate(error)
            raise
        if frame is None:
            raise Ended(f"{self.url}: the node sent an invalid message")
        if not isinstance(frame, worker_pb2.SessionResponse):
            raise await end_of(self._call, self.url, self._hints, welcomed=self._welcomed)
        return frame

    async def _translate(self, error: BaseException) -> None:
        """Raise what a failed read or write means: our own cancel, or the end of the stream."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error
        raise await end_of(self._call, self.url, self._hints, welcomed=self._welcomed) from None

    async def _watch(self) -> None:
        """Raise once the node is silent for too long, or somebody broke off."""
        while True:
            left = self._heard + self._silence - self._loop.time()
            if left <= 0:
                raise Ended(f"{self.url}: no message arrived within {self._silence:g} s")
            due = self._loop.time() + left
            done, _ = await asyncio.wait((self._broken,), timeout=left)
            if done:
                self._broken.result()
            if self._loop.time() - due > _LATE:
                # This process stood still, not the node: what it sent meanwhile is about to be read.
                self._heard = max(self._heard, self._loop.time() - self._silence + _LATE)

    def _fall_silent(self) -> None:
        """Say nothing more by itself."""
        self._heartbeats.stop()
        self._catalogs.stop()

    def _put_heartbeat(self, frame: worker_pb2.SessionRequest) -> bool:
        if self._writer.closed:
            return False
        if self.shown.renewed():
            self.move()
        self.put_control(frame)
        return True

    def _handle(self, frame: worker_pb2.SessionResponse) -> None:
        kind = frame.WhichOneof("message")
        if kind == "heartbeat_ack":
            if frame.heartbeat_ack.HasField("next_interval"):
                asked = _seconds(frame.heartbeat_ack.next_interval, 0.0)
                self._heartbeats.every = max(asked, self._timing.least_heartbeat)
        elif self._writer.closed and kind in _OF_LEASES:
            _log.debug("%s: %s on a replaced stream is ignored; the new one decides", self.url, kind)
        elif kind == "task_offers":
            self._listener.on_offers(frame.task_offers)
        elif kind == "update_acks":
            self._listener.on_acks(frame.update_acks)
        elif kind == "stop_tasks":
            self._listener.on_stops(frame.stop_tasks)
        elif kind == "go_away":
            self.going = frame.go_away
            self.left.set()
        elif kind == "reauthenticated":
            _log.debug("%s: the session continues with the new token", self.url)
        elif kind == "session_error":
            error = frame.session_error.error
            _log.warning(
                "the node refused message %d: %s: %s",
                frame.session_error.frame,
                error.reason,
                error.message,
                extra={"task_id": frame.session_error.task_id, "lease_id": frame.session_error.lease_id},
            )
            if not self._writer.closed:
                self._catalogs.refused(frame.session_error)
        elif not (
            (kind == "tree_request" and self._listener.on_tree(frame.tree_request))
            or (kind == "resolve_request" and self._listener.on_resolve(frame.resolve_request))
        ):
            self._listener.on_unknown(kind or "of a newer kind")


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Wait for tasks whose call was cancelled, which ends them; not for ever."""
    _, pending = await asyncio.wait(tasks, timeout=_CANCELLED_ENDS)
    for task in pending:
        task.cancel()


def _seconds(duration: Duration, otherwise: float) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    return seconds if seconds > 0 else otherwise
