"""The calls that nodes of one store make to each other: their arguments and replies. Later fields have defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holon.domain.events import InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.domain.value import Value
from holon.ports import (
    Appended,
    Completed,
    Counts,
    Created,
    Leased,
    NewJob,
    Opened,
    Opening,
    Result,
    Seat,
    Stop,
    TaskRecord,
    Touch,
    Touched,
)


class Guest(Value):
    """A session at one node, as the owner of a task must know it.

    Attributes:
        sequence: greater for a newer session of the same worker.
        lease, execution, instance_id, proof: as in `Opening`.
    """

    worker_id: str
    session_id: str
    sequence: int
    lease: int | None = None
    execution: int | None = None
    instance_id: str = ""
    proof: int = 0


class Append(Value, gc=True):
    """The arguments of `Steps.append`."""

    job_id: str
    event: InboxEvent
    dedup_key: str
    request_key: str = ""
    most: int | None = None


class Create(Value, gc=True):
    """The arguments of `Steps.create_jobs`, without seats."""

    items: tuple[NewJob, ...]


class Complete(Value, gc=True):
    """The arguments of `Leases.complete`, without seats. No result has a step."""

    guest: Guest
    results: tuple[Result, ...]


class Say(Value, gc=True):
    """The arguments of `Leases.touch`, without seats, and the sessions that it is about."""

    guests: tuple[Guest, ...]
    touch: Touch


class Lease(Value, gc=True):
    """The arguments of `Leases.lease`, and the sessions of the seats."""

    guests: tuple[Guest, ...]
    seats: tuple[Seat, ...]


class Open(Value, gc=True):
    """The arguments of `Leases.open_session`. What it resumes may be leases of other nodes' tasks."""

    guest: Guest
    opening: Opening


class Page(Value):
    """The arguments of `Leases.queued_tasks`."""

    key: str
    after: str
    limit: int


class Moves(Value, gc=True):
    """The arguments of `Leases.rekey`."""

    moves: tuple[tuple[str, Need], ...]


class End(Value, gc=True):
    """The arguments of `Leases.end_queued`."""

    key: str
    ends: tuple[tuple[str, Outcome], ...]


# The calls: the type of the arguments, and of the reply.
APPEND, CREATE, COMPLETE, SAY, LEASE, OPEN = "append", "create", "complete", "say", "lease", "open"
QUEUED, PAGE, REKEY, END_QUEUED, COUNTS = "queued", "page", "rekey", "end", "counts"
WATCH, CONFIRM = "watch", "confirm"
CALLS: Mapping[str, tuple[Any, Any]] = {
    APPEND: (Append, Appended),
    CREATE: (Create, Created),
    COMPLETE: (Complete, Completed),
    SAY: (Say, Touched),
    LEASE: (Lease, Leased),
    OPEN: (Open, Opened),
    QUEUED: (str, dict[str, tuple[Need, int]]),
    PAGE: (Page, tuple[TaskRecord, ...]),
    REKEY: (Moves, None),
    END_QUEUED: (End, None),
    COUNTS: (None, Counts),
    WATCH: (tuple[str, ...], None),
    CONFIRM: (str, None),
}

# Words, which need no reply: the type of their content.
# CLOSED: (worker, session). STOPS: at sessions of the receiver. CHANGED: jobs that the receiver watches. SAID: what was
# passed on of a job. DOCUMENTS: kinds that changed. DEMAND: all match keys that wait at the sender, with their needs.
# GIVE, FREED: a shard. JOINED: the sender has begun.
CLOSED, STOPS, CHANGED = "closed", "stops", "changed"
SAID, DOCUMENTS, DEMAND, GIVE, FREED, JOINED = "said", "documents", "demand", "give", "freed", "joined"
WORDS: Mapping[str, Any] = {
    CLOSED: tuple[str, str],
    STOPS: tuple[Stop, ...],
    CHANGED: tuple[str, ...],
    SAID: tuple[tuple[str, bytes], ...],
    DOCUMENTS: frozenset[str],
    DEMAND: dict[str, Need],
    GIVE: int,
    FREED: int,
    JOINED: None,
}
