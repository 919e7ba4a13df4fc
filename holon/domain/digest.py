"""The domain: the fingerprint of a job's history, by which what was told of it can be checked against it later.

Each line is one line of JSON: an array of its number, type, time, state, previous state, next state, duration, worker,
attempt, task and details, the keys of objects sorted, without spaces, and in UTF-8; times are whole milliseconds, what
does not apply is null. The fingerprint is the SHA-256 of those lines in order, each with its line end. It says the
same wherever history is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec.json import Encoder

from holon.domain.events import HistoryEvent
from holon.domain.value import Value

SHA256_BYTES = 32
_encode_lines = Encoder(order="sorted").encode_lines


class ChildDigest(Value):
    """The fingerprint that another holon told of a job of its own."""

    holon_id: str
    job_id: str
    sha256: bytes


class Digest(Value):
    """A fingerprint of so many lines of a job's history, of which `first` and `last` are the numbers.

    `children` are what was told of the jobs below.
    """

    events: int
    first: int
    last: int
    sha256: bytes
    children: tuple[ChildDigest, ...] = ()


class Fingerprint:
    """Takes a job's history line by line, the oldest first."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.events = self.first = self.last = 0

    def __repr__(self) -> str:
        return f"Fingerprint(events={self.events}, last={self.last})"

    def take(self, number: int, event: HistoryEvent) -> None:
        """The next line."""
        self.take_all(((number, event),))

    def take_all(self, lines: Sequence[tuple[int, HistoryEvent]]) -> None:
        """The next lines, with their numbers."""
        if lines:
            fields = [
                (
                    number,
                    event.type,
                    event.time,
                    event.state or None,
                    event.previous_state or None,
                    event.next_state or None,
                    event.duration_ms,
                    event.worker_id or None,
                    event.attempt_number,
                    event.task_id or None,
                    event.details or None,
                )
                for number, event in lines
            ]
            self._hash.update(_encode_lines(fields))
            self.first = self.first or lines[0][0]
            self.last = lines[-1][0]
            self.events += len(lines)

    def digest(self, children: tuple[ChildDigest, ...] = ()) -> Digest:
        """What it is so far."""
        return Digest(self.events, self.first, self.last, self._hash.digest(), children)
