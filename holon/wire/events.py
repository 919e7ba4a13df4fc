"""The wire: events of tasks, as workers send them."""

from __future__ import annotations

import orjson

from holon.domain.event_types import MAX_EVENT_BYTES, MAX_EVENT_TYPE, OF_WAITS, is_event_type
from holon.domain.events import Occurred
from holon.domain.fleet import MAX_WORKER_ID
from holon.errors import TooLarge, invalid
from holon.rxon.v1 import worker_pb2
from holon.wire.values import MAX_ID, fill, is_id, json_of, json_payload

_LATEST_S = 253_402_300_799
# No line of holons is longer, nor are the jobs in them.
MOST_PASSED = 64


def event_of(event: worker_pb2.Event, now: int, *, passed: bool) -> Occurred:
    """An event of a task.

    Arguments:
        now: its time, where it has none that can be (epoch ms).
        passed: whether it may have passed holons.
    Raises:
        InvalidArgument: it is none; the message says which field.
    """
    if not is_id(event.event_id):
        raise invalid("event_id", "must be 1 to 128 letters, digits, dots, underscores and dashes")
    if not event.task_id or not event.lease_id:
        raise invalid("task_id", "and lease_id are needed: an event belongs to a task")
    if len(event.task_id) > MAX_ID or len(event.lease_id) > MAX_ID:
        raise invalid("task_id", f"or lease_id is longer than {MAX_ID} characters, the limit of an id")
    if not is_event_type(event.type):
        raise invalid("type", f"must be 1 to {MAX_EVENT_TYPE} printable characters")
    if event.type in OF_WAITS and not passed:
        raise invalid("type", f"is {event.type!r}, which only a holon may send")
    if event.receipts:
        raise invalid("receipts", "needs the capability RECEIPTS, which this node does not list")
    holon_ids, job_ids = tuple(event.holon_ids), tuple(event.job_ids)
    if not passed and (holon_ids or job_ids or event.origin_worker_id):
        raise invalid("holon_ids", "and job_ids, and origin_worker_id, are only for holons")
    if len(holon_ids) > MOST_PASSED or len(job_ids) > MOST_PASSED:
        raise invalid("holon_ids", f"or job_ids has over {MOST_PASSED} ids")
    if not all(len(one) <= MAX_ID for one in (*holon_ids, *job_ids)):
        raise invalid("holon_ids", f"or job_ids has an id of over {MAX_ID} characters")
    if len(event.origin_worker_id) > MAX_WORKER_ID:
        raise invalid("origin_worker_id", f"is longer than {MAX_WORKER_ID} characters, the limit of a worker id")
    return Occurred(
        event.task_id,
        event.lease_id,
        event.event_id,
        event.type,
        _payload(event),
        _time(event, now),
        holon_ids,
        job_ids,
        event.origin_worker_id,
    )


def _payload(event: worker_pb2.Event) -> bytes:
    text = json_of(event.payload, "payload")
    if len(text) > MAX_EVENT_BYTES:
        raise TooLarge(f"payload has {len(text)} bytes, over the limit of {MAX_EVENT_BYTES}")
    try:
        found = orjson.loads(text) if text else {}
    except ValueError as error:
        raise invalid("payload", f"is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise invalid("payload", "is not a JSON object")
    return text


def _time(event: worker_pb2.Event, now: int) -> int:
    seconds, nanos = event.time.seconds, event.time.nanos
    known = event.HasField("time") and 0 <= seconds <= _LATEST_S and 0 <= nanos < 10**9
    return seconds * 1000 + nanos // 1_000_000 if known else now


def event_message(event: Occurred) -> worker_pb2.Event:
    """An event of a task, as the worker tells it that holds the task; back by `event_of`."""
    message = worker_pb2.Event(
        event_id=event.event_id,
        task_id=event.task_id,
        lease_id=event.lease_id,
        type=event.type,
        holon_ids=event.holon_ids,
        job_ids=event.job_ids,
        origin_worker_id=event.origin_worker_id,
    )
    fill(message.time, event.time)
    if event.payload:
        message.payload.CopyFrom(json_payload(event.payload))
    return message
