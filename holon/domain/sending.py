"""The domain: what a handler tells beside its decision: events, as its blueprint declares them and as they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from holon.domain import schema
from holon.domain.asking import text, wrong
from holon.domain.event_types import MAX_EVENT_BYTES, OF_WAITS
from holon.domain.events import BLUEPRINT_EVENT, HistoryEvent
from holon.domain.plain import MAX_DEPTH_READ, obstacle
from holon.domain.value import Value
from holon.errors import BlueprintError, HolonError

# Of one run of a handler. They are written with its step, and each is a line of history, which others read whole. One
# event may have all the bytes.
MAX_EVENTS = 100
MAX_EVENTS_BYTES = MAX_EVENT_BYTES
_LONGEST_TYPE = 128


class SentEvent(Value, gc=True):
    """An event that a handler sent; `size` is that of its payload as JSON text, in bytes, as it is told elsewhere."""

    type: str
    payload: Any
    size: int


def as_object(payload: Any) -> dict[str, Any] | None:
    """A payload as it is told elsewhere: there it is a JSON object, or none; a blueprint may send any value."""
    return payload if payload is None or isinstance(payload, dict) else {"value": payload}


_AROUND_VALUE = len(msgspec.json.encode(as_object(0))) - 1


def sent_event(event_type: Any, payload: Any, before: tuple[SentEvent, ...]) -> SentEvent:
    """One more event of a run. Its payload is a copy.

    Arguments:
        before: those that the run has sent already.
    Raises:
        BlueprintError: (ACTION_INVALID) it cannot be, or they are too many or too much together.
    """
    where = "send_event"
    name = _type(where, event_type)
    if len(before) == MAX_EVENTS:
        raise wrong(f"{where}: this run has sent {MAX_EVENTS} events, which is the limit; put several into one")
    is_told_so = as_object(payload) is payload
    # Above the job, where it is told of too, nobody reads what is nested deeper.
    if found := obstacle(payload, "payload", 0 if is_told_so else 1, MAX_DEPTH_READ):
        raise wrong(f"{where}: {found}")
    try:
        encoded = msgspec.json.encode(payload)
    except UnicodeError as error:
        raise wrong(f"{where}: payload has text that cannot be written as UTF-8") from error
    size = len(encoded) + (0 if is_told_so else _AROUND_VALUE)
    if (together := size + sum(one.size for one in before)) > MAX_EVENTS_BYTES:
        raise wrong(
            f"{where}: the payloads of this run's events have {together} bytes together, over the limit of "
            f"{MAX_EVENTS_BYTES}; store large data elsewhere, and send its address"
        )
    return SentEvent(name, msgspec.json.decode(encoded), size)


def declared_event(name: Any, described: Any, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON schema of an event's payload; None where anything goes.

    Arguments:
        described: the schema itself, a dataclass or another type that has one; None: anything goes.
        known: the events that there are already.
    Raises:
        BlueprintError: it can have no such name or schema, or another has the name.
    """
    where = "event"
    name = _type(where, name)
    if name in known:
        raise BlueprintError(f"event {name!r} is already declared; use another name")
    try:
        return None if described is None else schema.schema_of(described)
    except HolonError as error:
        raise BlueprintError(f"event {name!r}: {error.message}") from error


def line_of(event: SentEvent, state: str, now: int) -> HistoryEvent:
    """The line of history that tells an event."""
    return HistoryEvent(f"{BLUEPRINT_EVENT}{event.type}", now, state, details={"payload": event.payload})


def line_of_refused(event: SentEvent, why: str, state: str, now: int) -> HistoryEvent:
    """The line of history that says that an event was not told."""
    return HistoryEvent("event_refused", now, state, details={"event": event.type, "error": why})


def _type(where: str, given: Any) -> str:
    name = text(where, "its type", given)
    if len(name) > _LONGEST_TYPE or not name.isprintable():
        raise wrong(f"{where}: its type is {name!r}; give at most {_LONGEST_TYPE} printable characters")
    if name in OF_WAITS:
        raise wrong(f"{where}: its type is {name!r}, which is reserved for what a job waits for; use another name")
    return name
