"""Messages as nobody should send them: any value in any field, and frames that were damaged on their way."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.fuzz.choices import Choices

DEEP = b"[" * 200 + b"]" * 200
HUGE = "x" * 70_000
TEXTS = (
    "", "t", "good", "0", "a\0b", "\0", "\u202e", "\ud7ff\U0001f600", "'; DROP TABLE jobs; --", "../../etc/passwd",
    "a" * 128, "a" * 129, HUGE, "-1", "1" * 19, "9" * 30, "running", "finished", "success", "failure", "cancelled",
    "id", "result", "nothing", " ", "\n", "%s%n", "{}", "1.0", "application/json", "zstd", "client",
)  # fmt: skip
BYTES = (
    b"", b"{}", b'{"n":1}', b"[]", b"null", b"0", b"nan", b"NaN", b"Infinity", b"\xff\xfe", b"{", b'"\\ud800"',
    b'{"a":1,"a":2}', DEEP, b'{"a":' * 63 + b"1" + b"}" * 63, b'{"n":123456789012345678901234567890}',
    b'{"n":-9223372036854775809}', b'{"n":1e999}', b'{"\\u0000":"\\u0000"}', b'{"x":"' + b"y" * 70_000 + b'"}',
    b'{"skill":"bait"}', b'{"skill":""}', b'{"skill":7}', b'{"skill":"' + b"s" * 300 + b'"}',
    b'{"type":"object"}', b'{"type":7}', b'{"$ref":"#"}', b'{"$ref":"http://localhost:1/x"}', b'{"pattern":"(a+)+$"}',
)  # fmt: skip
WHOLE = (0, 1, 2, 5, 100, 1_000, 1_001, 2**31 - 1, -1, -(2**31), 2**53, 2**63 - 1, -(2**63))
FLOATS = (0.0, 1.0, 100.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324)
# Members that no version has: a varint, a group that never ends, a length beyond the end.
UNKNOWN = (b"\xa2\x06\x00", b"\xf8\x07\x01", b"\xfa\xff\xff\xff\x0f\x02hi", b"\x9b\x06", b"\xa2\x06\x7f")
DEPTH = 4

_BITS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


def text(choices: Choices) -> str:
    return choices.of(TEXTS)


def json_text(choices: Choices) -> bytes:
    return choices.of(BYTES) if choices.one_in(2) else json.dumps({"n": choices.byte()}).encode()


def fill(choices: Choices, message: Message, depth: int = DEPTH) -> Message:
    """Set some fields of a message to any value at all; answers with it."""
    fields = _fields(message)
    for _ in range(choices.below(len(fields) + 1)):
        field = choices.of(fields)
        if not choices.over:
            _set(choices, message, field, depth)
    return message


def _set(choices: Choices, message: Message, field: FieldDescriptor, depth: int) -> None:
    target = getattr(message, field.name)
    if _is_map(field):
        _set_entry(choices, target, field, depth)
    elif field.is_repeated:
        for _ in range(choices.of((1, 2, 3, 300) if depth == DEPTH else (1, 2))):
            if field.message_type is None:
                target.append(_scalar(choices, field))
            elif depth:
                fill(choices, target.add(), depth - 1)
    elif field.message_type is None:
        setattr(message, field.name, _scalar(choices, field))
    elif depth:
        target.SetInParent()
        fill(choices, target, depth - 1)


def _fields(message: Message) -> list[Any]:
    return list(message.DESCRIPTOR.fields)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _set_entry(choices: Choices, target: Any, field: FieldDescriptor, depth: int) -> None:
    assert field.message_type is not None
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    if value.message_type is None:
        target[_scalar(choices, key)] = _scalar(choices, value)
    elif depth:
        fill(choices, target[_scalar(choices, key)], depth - 1)


def _scalar(choices: Choices, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return text(choices)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return json_text(choices)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return choices.one_in(2)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return choices.of((0, 1, 2, 7, 99, -1, 2**31 - 1))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return choices.of(FLOATS)
    least, most = _BITS[field.type]
    return min(most, max(least, choices.of(WHOLE)))


def damage(choices: Choices, raw: bytes) -> bytes:
    """A frame with a few bytes changed, lost, doubled or put in."""
    for _ in range(1 + choices.below(4)):
        at = choices.below(len(raw)) if raw else 0
        changed = choices.bytes(1)
        lost, put = choices.of(((1, changed), (1 + choices.below(8), b""), (0, raw[at:]), (0, _alien(choices))))
        raw = raw[:at] + put + raw[at + lost :]
    return raw


def _alien(choices: Choices) -> bytes:
    return choices.of((*UNKNOWN, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))


def vary(choices: Choices, valid: Message) -> Message:
    """A copy of a message in which a field or two, at any depth, have another value, or none."""
    message = type(valid)()
    message.CopyFrom(valid)
    for _ in range(1 + choices.below(3)):
        part, depth = message, DEPTH
        while (inner := _inside(part)) and not choices.one_in(4):
            part, depth = choices.of(inner), depth - 1
        for field in [choices.of(fields)] if (fields := _fields(part)) else ():
            if choices.one_in(4):
                part.ClearField(field.name)
            else:
                _set(choices, part, field, max(depth, 0))
    return message


def _inside(message: Message) -> list[Message]:
    """The messages that are set in a message."""
    inside: list[Message] = []
    for field, value in message.ListFields():
        if field.message_type is None or _is_map(field):
            continue
        inside += value if field.is_repeated else [value]
    return inside


def wrong(choices: Choices, kind: type[Message], *valid: Message) -> bytes:
    """The bytes of a message that is no good, or just might be.

    Arguments:
        valid: what is right of its kind, to be varied and damaged; some may be.
    """
    right = valid or (kind(),)
    raw: bytes = choices.weighted(
        (8, lambda: vary(choices, choices.of(right)).SerializeToString()),
        (3, lambda: fill(choices, kind()).SerializeToString()),
        (2, lambda: damage(choices, choices.of(right).SerializeToString())),
        (1, lambda: damage(choices, vary(choices, choices.of(right)).SerializeToString())),
        (1, lambda: choices.of(right).SerializeToString() + choices.of(UNKNOWN)),
        (1, lambda: choices.bytes(choices.below(40))),
    )
    return raw
