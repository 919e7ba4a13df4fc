"""The one codec of what is stored, in all stores alike.

What users put into jobs is kept as JSON text within, so that whatever is accepted can also be answered: JSON keeps
integers as integers, and refuses what no client could read.
"""

from __future__ import annotations

from holon.stores.records.events import (
    decode_event,
    decode_history,
    decode_inbox,
    encode_event,
    encode_history,
    encode_inbox,
    from_lines,
    to_lines,
)
from holon.stores.records.jobs import decode_job, encode_job
from holon.stores.records.schema import SCHEMA, NewerRecord, pack, to_msgpack, unpack
from holon.stores.records.tasks import (
    decode_chunk,
    decode_need,
    decode_outcome,
    encode_chunk,
    encode_need,
    encode_outcome,
    outcome_fields,
    outcome_of,
)

__all__ = [
    "SCHEMA",
    "NewerRecord",
    "decode_chunk",
    "decode_event",
    "decode_history",
    "decode_inbox",
    "decode_job",
    "decode_need",
    "decode_outcome",
    "encode_chunk",
    "encode_event",
    "encode_history",
    "encode_inbox",
    "encode_job",
    "encode_need",
    "encode_outcome",
    "from_lines",
    "outcome_fields",
    "outcome_of",
    "pack",
    "to_lines",
    "to_msgpack",
    "unpack",
]
