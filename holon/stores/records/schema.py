"""How a record is stored: msgpack, with a schema number first, so that later releases can upgrade on read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
from msgspec.msgpack import Encoder

from holon.errors import StoreUnavailable

SCHEMA = 1
# What makes the fields of an older record those of the next schema, by kind and schema; those that stay are not named.
UPGRADES: dict[tuple[str, int], Callable[[list[Any]], list[Any]]] = {}

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
