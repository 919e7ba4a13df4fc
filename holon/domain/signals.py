"""The domain: signals from outside, which jobs wait for, or keep until they do."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from holon.domain.value import Value

MAX_SIGNAL_NAME = 128
# No control character is in a name. It is not asked what can be printed: that differs between editions of Unicode, and
# a name that is one at a root must be one in each holon below it.
SIGNAL_NAME = r"^[^\x00-\x1f\x7f-\x9f]*$"
_NAME = re.compile(SIGNAL_NAME)
# Of what comes with one, as JSON text.
MAX_SIGNAL_BYTES = 64 * 1024
# A job keeps so many that it does not wait for yet, and they have so much together; then no more are accepted.
MOST_KEPT = 64
MOST_KEPT_BYTES = 256 * 1024
# Those that come while the job is busy wait for it: as many as it keeps, and of large ones fewer. It keeps them as
# well, so that none is lost that was accepted. What was accepted at the same moment as others may be more yet: of that
# only so many are kept.
_MOST_WAITING_BYTES = 1024 * 1024
_ROOM = 8


class KeptSignal(Value, gc=True):
    """A signal that came before its job waited for it; `size` is that of its data as text."""

    name: str
    data: dict[str, Any]
    size: int


class Signal(Value, tag_field="kind", tag="signal"):
    """Somebody who may tells a job that something has happened; `by` names them.

    `data` is a JSON object for the job's state, as text; empty: nothing. `request_id` is the client's name for this
    wish, by which its repeat is known; empty: it has none. `above` is the parent holon that passed it down, and
    `sent_at` when it was sent there, in epoch milliseconds; empty and 0: it was sent here.
    """

    name: str
    by: str
    data: bytes = b""
    request_id: str = ""
    above: str = ""
    sent_at: int = 0


def is_signal_name(text: object) -> bool:
    """Whether a signal may be called so: 1 to 128 characters, none of them a control character."""
    return isinstance(text, str) and 0 < len(text) <= MAX_SIGNAL_NAME and _NAME.fullmatch(text) is not None


def has_room(kept: Sequence[KeptSignal]) -> bool:
    """Whether a job that keeps these takes one more that it does not wait for."""
    return len(kept) < MOST_KEPT and sum(one.size for one in kept) < MOST_KEPT_BYTES


def most_waiting(size: int) -> int:
    """With how many events that wait for a job it takes no signal whose data has so many bytes."""
    return min(MOST_KEPT, _MOST_WAITING_BYTES // max(1, size))


def keeps(kept: Sequence[KeptSignal], signal: Signal, data: Any) -> tuple[KeptSignal, ...] | None:
    """Those that a job keeps once it keeps one more; None: it cannot."""
    if len(kept) >= MOST_KEPT * _ROOM or sum(one.size for one in kept) >= MOST_KEPT_BYTES * _ROOM:
        return None
    return (*kept, KeptSignal(signal.name, dict(data), len(signal.data)))


def first_of(kept: Sequence[KeptSignal], names: Collection[str]) -> int | None:
    """The place of the oldest that is called by one of these names; None: there is none."""
    return next((place for place, one in enumerate(kept) if one.name in names), None)
