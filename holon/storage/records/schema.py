"""How a record is stored: msgpack, with a schema number first, so that later releases can upgrade on read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
from msgspec.msgpack import Encoder

from holon.domain.client import NO_PLAN
from holon.errors import StoreUnavailable

SCHEMA = 13


def _grown(count: int, added: Any) -> Callable[[list[Any]], list[Any]]:
    """What adds a last field to those of a record, which are so many then: some of schemas 10 and 11 have it."""
    return lambda fields: fields if len(fields) >= count else [*fields, added]


# What makes the fields of an older record those of the next schema, by kind and schema; those that stay are not named.
UPGRADES: dict[tuple[str, int], Callable[[list[Any]], list[Any]]] = {
    ("job", 1): lambda fields: [*fields, NO_PLAN, b""],
    ("job", 2): lambda fields: [*fields, None],
    ("task", 2): lambda fields: [*fields, 0],
    ("task", 3): lambda fields: [*fields, 0, 0],
    ("task", 4): lambda fields: [*fields, 0, False],
    ("task", 6): lambda fields: [*fields, 0],
    ("task", 10): _grown(31, 0),
    ("endings", 6): lambda fields: [[[*end[:3], [*end[3], 0]] for end in fields[0]]],
    ("endings", 10): lambda fields: [[[*end[:3], UPGRADES["task", 10](end[3])] for end in fields[0]]],
    ("job", 3): lambda fields: [*fields, None, None],
    ("job", 5): lambda fields: [*fields, None],
    ("job", 8): lambda fields: [*fields, "", 0, "", None, "", 0],
    ("job", 9): lambda fields: [*fields[:27], [fields[27]] if fields[27] else [], *fields[28:], 0.0, None],
    ("job", 10): _grown(34, ()),
    ("job", 11): _grown(35, ()),
    ("job", 12): lambda fields: [*fields, 0],
    ("need", 3): lambda fields: [*fields, None, None],
    ("need", 7): lambda fields: [*fields, ()],
    ("need", 8): lambda fields: [*fields, "", "", ""],
    ("chunk", 2): lambda fields: [[[*task, 0] for task in fields[0]]],
    ("chunk", 3): lambda fields: [[[*task[:2], [*task[2], None, None], *task[3:], 0] for task in fields[0]]],
    ("chunk", 7): lambda fields: [[[*task[:2], [*task[2], ()], *task[3:]] for task in fields[0]], *fields[1:]],
    ("chunk", 8): lambda fields: [[[*task[:2], [*task[2], "", "", ""], *task[3:]] for task in fields[0]], *fields[1:]],
}

# Byte for byte what `msgpack` packs, in less than half the time; in reading it there is nothing to gain.
to_msgpack = Encoder().encode


def pack(*fields: Any) -> bytes:
    """Plain values as a record."""
    return to_msgpack((SCHEMA, *fields))


class NewerRecord(StoreUnavailable):
    """Expected: a newer release wrote what was to be read; a node of that release can take the call."""


def unpack(kind: str, record: bytes) -> list[Any]:
    """The values of a record, as this release has them whichever wrote it.

    Raises:
        NewerRecord: a newer release wrote it.
    """
    fields: list[Any]
    schema, *fields = msgpack.unpackb(record, use_list=True)
    if schema > SCHEMA:
        raise NewerRecord(
            f"a record of the store ({kind}) is of schema {schema}, and this release reads {SCHEMA} at most: "
            "replace this node by one of the newer release"
        )
    for older in range(schema, SCHEMA):
        if (upgrade := UPGRADES.get((kind, older))) is not None:
            fields = upgrade(fields)
    return fields
