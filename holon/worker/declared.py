"""The worker SDK: the events that a skill declares, as they are offered, and what is sent held against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from holon.domain.event_types import MAX_EVENT_TYPE, OF_WAITS, is_event_type
from holon.domain.fleet import MAX_EVENTS
from holon.domain.schema import fits, schema_of
from holon.errors import HolonError, InvalidArgument
from holon.rxon.v1 import worker_pb2

EVENT_INVALID = "EVENT_INVALID"
_NAMES_SHOWN = 20


class DeclaredEvents:
    """What a skill may send; one that declares nothing may send anything.

    Arguments:
        events: by type, the schema of the payload: a JSON schema, a dataclass, or any other hint; None: anything goes.
    Raises:
        InvalidArgument: a skill can declare no such events; the message goes on from its name.
    """

    def __init__(self, events: Mapping[str, Any]) -> None:
        if not isinstance(events, Mapping):
            raise InvalidArgument(f"its events are {events!r:.200}; give a dict, such as {{'seen': Seen}}")
        if len(events) > MAX_EVENTS:
            raise InvalidArgument(f"it declares {len(events)} events, over the limit of {MAX_EVENTS}")
        self._hints = dict(events)
        self.schemas = {kind: _schema(kind, hint) for kind, hint in self._hints.items()}

    def __repr__(self) -> str:
        return f"DeclaredEvents({', '.join(self._hints)})"

    def offered(self) -> list[worker_pb2.EventType]:
        """Them, as an offering says them."""
        types = []
        for kind, schema in self.schemas.items():
            one = worker_pb2.EventType(type=kind)
            if schema is not None:
                one.schema.data = orjson.dumps(schema)
            types.append(one)
        return types

    def check(self, skill: str, kind: str, payload: bytes) -> None:
        """Hold an event against what is declared, as far as that goes without a validator; the node does the rest.

        Arguments:
            skill: which one sends it, for the message.
            kind: its type.
            payload: as JSON text; empty is an empty object.
        Raises:
            InvalidArgument: (EVENT_INVALID) it is none of these, or its payload is not so.
        """
        if not self._hints:
            return
        if kind not in self._hints:
            known = ", ".join(list(self._hints)[:_NAMES_SHOWN])
            reason = f"is not declared by skill {skill!r} ({known}); add it to @worker.skill(events={{...}})"
            raise InvalidArgument(f"event {kind!r} {reason}", code=EVENT_INVALID)
        schema = self.schemas[kind]
        if schema is None:
            return
        value = orjson.loads(payload) if payload else {}
        if why := _breach(schema, value) or _unlike(self._hints[kind], value):
            message = f"the payload of event {kind!r} does not match the declaration of skill {skill!r}: it {why}"
            raise InvalidArgument(message, code=EVENT_INVALID)


def _schema(kind: Any, hint: Any) -> dict[str, Any] | None:
    if not is_event_type(kind):
        raise InvalidArgument(f"event type {kind!r:.200} is invalid; use 1 to {MAX_EVENT_TYPE} printable characters")
    if kind in OF_WAITS:
        raise InvalidArgument(f"event type {kind!r} is reserved for what a job waits for; use another name")
    if hint is None:
        return None
    try:
        schema = schema_of(hint)
    except HolonError as error:
        raise InvalidArgument(f"event {kind!r}: {error.message}") from error
    if schema is not None and schema.get("type", "object") != "object":
        raise InvalidArgument(f"event {kind!r}: a payload is a JSON object, but the hint {hint!r:.200} is not one")
    return schema


def _breach(schema: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    """Where the payload's own keys break a schema, in words; empty where they do not."""
    for name in schema.get("required", ()):
        if name not in value:
            return f"lacks {name!r}"
    parts = schema.get("properties", {})
    for name in value:
        if name not in parts and schema.get("additionalProperties") is False and "patternProperties" not in schema:
            return f"has {name!r}, which is not declared"
    for name, part in parts.items():
        if name in value and isinstance(part, dict) and not fits(part, value[name]):
            return f"has a {name!r} that is not {part['type']}"
    return ""


def _unlike(hint: Any, value: Any) -> str:
    return "" if fits(hint, value) else f"is not {getattr(hint, '__name__', hint)}"
