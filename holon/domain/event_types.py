"""The domain: what an event of a task may be, for both sides of a worker's stream."""

from __future__ import annotations

MAX_EVENT_TYPE = 128
# Of its payload, as JSON text.
MAX_EVENT_BYTES = 64 * 1024


def payload_left_out(why: str) -> dict[str, str]:
    """What an event says in the place of a payload that whoever is told of it could not read."""
    return {"payload_left_out": why}


# What the history of a job says of its question to a person, and of its wait for a signal; holons pass it up under
# these names. Nobody else may tell of events that are called so: whoever decides, or sends a signal, relies on them.
APPROVAL_REQUESTED = "approval_requested"
APPROVAL_RESOLVED = "approval_resolved"
APPROVAL_TIMED_OUT = "approval_timed_out"
SIGNAL_AWAITED = "signal_awaited"
SIGNAL_RECEIVED = "signal_received"
SIGNAL_TIMED_OUT = "signal_timed_out"
OF_WAITS = frozenset(
    (APPROVAL_REQUESTED, APPROVAL_RESOLVED, APPROVAL_TIMED_OUT, SIGNAL_AWAITED, SIGNAL_RECEIVED, SIGNAL_TIMED_OUT)
)


def is_event_type(text: object) -> bool:
    """Whether an event may be of this type: 1 to 128 printable characters."""
    return isinstance(text, str) and 0 < len(text) <= MAX_EVENT_TYPE and text.isprintable()
