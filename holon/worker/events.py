"""The worker SDK: events of tasks. Each is kept until the node has it, and sent again on every new session."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from holon.domain.event_types import MAX_EVENT_BYTES, MAX_EVENT_TYPE, OF_WAITS, is_event_type
from holon.errors import InvalidArgument, ResourceExhausted
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.worker.declared import EVENT_INVALID
from holon.worker.leases import Lease
from holon.worker.session import Session
from holon.worker.skill import Skill
from holon.worker.threads import Mailbox

_log = logging.getLogger("holon.worker")

# What one task may send: more than that is a stream, and no event.
MOST_OF_TASK = 1_000
# So many may be without an answer; the node takes no more at once.
MOST_UNACKNOWLEDGED = 1_000
# So many of one task that tells what has happened long ago, and could tell all of it at once.
MOST_OF_LEASE = 100
_AT_ONCE = 256
_BYTES_AT_ONCE = 512 * 1024
_LEAST_RETRY_S = 0.05


class Events:
    """The events that the node has not acknowledged. Everything belongs to the link's loop.

    Attributes:
        session: the one that they are sent on; None while there is none.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        # All of them, in the order in which they were sent first.
        self._kept: OrderedDict[str, worker_pb2.Event] = OrderedDict()
        self._of: dict[Lease, set[str]] = {}
        # Those that the node has yet to answer, and those that are to be sent when it has room for them.
        self._out: set[str] = set()
        self._waiting: deque[str] = deque()
        # Those of which one is to be sent again: what happened after that waits with it, until the timer.
        self._put_off: set[Lease] = set()
        self._timer: asyncio.TimerHandle | None = None
        # Who waits for room, by whose.
        self._fewer: dict[Lease, asyncio.Event] = {}

    def __repr__(self) -> str:
        return f"Events(unacknowledged={len(self._kept)})"

    def send(self, lease: Lease, event: worker_pb2.Event) -> None:
        """Tell the node of an event of a task that is held; one of an id that it has yet to acknowledge is no other.

        What a task tells again under a newer lease takes the place of what it told under the one before.
        """
        known = self._kept.get(event.event_id)
        if known is not None:
            before = Lease(known.task_id, known.lease_id)
            if before == lease:
                return
            self._forget(before, event.event_id)
        event.task_id, event.lease_id = lease.task_id, lease.lease_id
        self._kept[event.event_id] = event
        self._of.setdefault(lease, set()).add(event.event_id)
        self._waiting.append(event.event_id)
        self._say()

    async def room(self, lease: Lease) -> None:
        """Wait until few of a task are not acknowledged, or what is left of them is of no use."""
        while len(self._of.get(lease, ())) >= MOST_OF_LEASE:
            await self._fewer.setdefault(lease, asyncio.Event()).wait()

    def wait(self, lease: Lease) -> bool:
        """Whether some of a task are not acknowledged: after its final word the node takes none of them."""
        return lease in self._of

    def acknowledge(self, acks: Sequence[worker_pb2.EventAck]) -> list[Lease]:
        """Forget what the node has, or will not have; what it cannot take now is sent again when it says.

        Returns:
            the leases of which no event waits any more.
        """
        done: list[Lease] = []
        for ack in acks:
            self._out.discard(ack.event_id)
            event = self._kept.get(ack.event_id)
            if event is None:
                continue
            lease = Lease(event.task_id, event.lease_id)
            if ack.error.HasField("retry_after"):
                after = ack.error.retry_after.seconds + ack.error.retry_after.nanos / 1e9
                self._put_off.add(lease)
                self._again_in(max(after, _LEAST_RETRY_S))
                continue
            if ack.HasField("error"):
                _log.warning(
                    "event %r of task %s was refused: %s: %s",
                    event.type,
                    event.task_id,
                    ack.error.reason,
                    ack.error.message,
                    extra={"task_id": event.task_id, "lease_id": event.lease_id},
                )
            self._forget(lease, ack.event_id)
            if lease not in self._of:
                done.append(lease)
        self._say()
        return done

    def over(self, lease: Lease) -> None:
        """The final word on a lease is acknowledged, or it was given back: what is left of its events is of no use."""
        for event_id in self._of.pop(lease, ()):
            self._kept.pop(event_id, None)
            self._out.discard(event_id)
        self._room_in(lease)

    def repeat(self, session: Session) -> None:
        """Send all that is not acknowledged on a new session, and from now on what comes; before its results are."""
        self.session = session
        self._out.clear()
        self._again()

    def stop(self) -> None:
        """Send nothing again."""
        if self._timer is not None:
            self._timer.cancel()

    def _forget(self, lease: Lease, event_id: str) -> None:
        del self._kept[event_id]
        self._out.discard(event_id)
        self._of[lease].discard(event_id)
        if not self._of[lease]:
            del self._of[lease]
        self._room_in(lease)

    def _room_in(self, lease: Lease) -> None:
        if (fewer := self._fewer.pop(lease, None)) is not None:
            fewer.set()

    def _again_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._again)

    def _again(self) -> None:
        self.stop()
        self._timer = None
        self._put_off.clear()
        self._waiting = deque(event_id for event_id in self._kept if event_id not in self._out)
        self._say()

    def _say(self) -> None:
        session = self.session
        if session is None or session.end is not None or not self._waiting:
            return
        if types_pb2.CAPABILITY_EVENTS not in session.welcome.capabilities:
            _log.warning("the node accepts no events: %d events of tasks are lost", len(self._kept))
            for lease in tuple(self._of):
                self.over(lease)
            self._waiting.clear()
            return
        batch: list[worker_pb2.Event] = []
        size = 0
        while self._waiting and len(self._out) < MOST_UNACKNOWLEDGED:
            event = self._kept.get(self._waiting.popleft())
            if event is None or Lease(event.task_id, event.lease_id) in self._put_off:
                continue
            self._out.add(event.event_id)
            batch.append(event)
            size += event.ByteSize()
            if len(batch) == _AT_ONCE or size >= _BYTES_AT_ONCE:
                session.put_control(worker_pb2.SessionRequest(events=worker_pb2.WorkerEvents(events=batch)))
                batch, size = [], 0
        if batch:
            session.put_control(worker_pb2.SessionRequest(events=worker_pb2.WorkerEvents(events=batch)))


class SendEvent:
    """A handler's `send_event(type, payload=None)`.

    Arguments:
        mailbox: leads to the stream's loop.
        send: takes the event; called in the stream's loop.
        skill: which one it is for, that declares what it may send.
    """

    def __init__(self, mailbox: Mailbox, send: Callable[[worker_pb2.Event], None], skill: Skill) -> None:
        self._mailbox = mailbox
        self._send = send
        self._skill = skill
        self._lock = threading.Lock()
        self._sent = 0

    def __call__(self, type: str, payload: Mapping[str, Any] | None = None) -> None:  # noqa: A002  the protocol's word
        """Tell the job of something that happened. Never blocks; any thread may call it, before its handler returns.

        It comes there once, also through a lost connection, and before the task's result: it is in the job's history,
        and its blueprint may go on by it (`event_transitions`).

        Arguments:
            type: what kind of event; 1 to 128 printable characters.
            payload: what it says: JSON with text as keys, at most 64 KiB; None says nothing more.
        Raises:
            InvalidArgument: (EVENT_INVALID) it can be no event, or is not as the skill declares its events.
            ResourceExhausted: (EVENTS_FULL) this task has sent 1,000 already.
        """
        if not is_event_type(type):
            raise _none(f"event type {type!r:.200} is invalid; use 1 to {MAX_EVENT_TYPE} printable characters")
        if type in OF_WAITS:
            raise _none(f"event type {type!r} is reserved for what a job waits for; use another name")
        event = worker_pb2.Event(event_id=uuid.uuid4().hex, type=type)
        event.time.GetCurrentTime()
        if payload is not None:
            event.payload.data = _json(type, payload)
        self._skill.events.check(self._skill.name, type, event.payload.data)
        with self._lock:
            if self._sent >= MOST_OF_TASK:
                raise ResourceExhausted(
                    f"this task has sent {MOST_OF_TASK} events, which is the limit; use `log` or `progress` for more",
                    code="EVENTS_FULL",
                )
            self._sent += 1
        self._mailbox.post(self._send, event)


def _json(kind: str, payload: Mapping[str, Any]) -> bytes:
    if not isinstance(payload, Mapping):
        raise _none(f"the payload of event {kind!r} is a {payload.__class__.__name__}; give a dict")
    try:
        text = orjson.dumps(dict(payload))
    except (TypeError, ValueError) as error:
        raise _none(f"the payload of event {kind!r} cannot be written as JSON: {error}") from error
    if len(text) > MAX_EVENT_BYTES:
        raise _none(
            f"the payload of event {kind!r} has {len(text)} bytes, over the limit of {MAX_EVENT_BYTES}; store large "
            "data elsewhere, and send its address"
        )
    return text


def _none(why: str) -> InvalidArgument:
    """What can be no event: another try of its task would send the same."""
    return InvalidArgument(why, code=EVENT_INVALID)
