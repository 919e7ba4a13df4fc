"""The domain: what an event of a task may be, for both sides of a worker's stream."""

from __future__ import annotations

MAX_EVENT_TYPE = 128
# Of its payload, as JSON text.
MAX_EVENT_BYTES = 64 * 1024


def is_event_type(text: object) -> bool:
    """Whether an event may be of this type: 1 to 128 printable characters."""
    return isinstance(text, str) and 0 < len(text) <= MAX_EVENT_TYPE and text.isprintable()
