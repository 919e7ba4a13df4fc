"""The domain: what happens to a job (its inbox), and what is told of it afterwards (its history)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holon.domain.event_types import OF_WAITS
from holon.domain.signals import Signal
from holon.domain.task import Outcome
from holon.domain.value import Value, field


class TaskEnded(Value, tag_field="kind", tag="task"):
    """The single task of a step is over; `tries` counts its applied outcomes."""

    step: int
    task_id: str
    outcome: Outcome
    tries: int = 1


class BranchesDone(Value, tag_field="kind", tag="branches"):
    """A fan-out is over: all its branches reported, or the first failed under `fail_fast`, or their data is too big.

    `failed` counts the branches without success; `fail_fast` says that one of them ended the rest.
    """

    step: int
    failed: int = 0
    fail_fast: bool = False
    too_large: bool = False


class Woken(Value, tag_field="kind", tag="woken"):
    """The timer that a step started has fired."""

    step: int


# Who asks for it where nobody does: the time for the job is over.
OUT_OF_TIME = "end of its time"


class CancelRequested(Value, tag_field="kind", tag="cancel"):
    """Somebody who may asked for the job to end; `by` names them, or says why it is, in words that follow a `the`.

    `insist`: whether one that cleans up after an earlier cancel is ended at once; else that goes on. `reason` is what
    they say of it; empty: nothing.
    """

    by: str
    insist: bool = True
    reason: str = ""


# Before the event's type: the type of its line of history, whoever sent it.
WORKER_EVENT = "worker_event:"
BLUEPRINT_EVENT = "blueprint_event:"


class TaskEvent(Value, tag_field="kind", tag="event"):
    """Something that a worker wants a job to know while its task runs.

    `payload` is a JSON object, or empty; `time` is epoch milliseconds of the clock where it happened. What a holon
    passed on has the `holon_ids` that it passed and the `job_ids` there, the highest first, and `origin_worker_id`,
    if that is disclosed.
    """

    step: int
    task_id: str
    event_id: str
    type: str
    payload: bytes
    worker_id: str
    time: int
    holon_ids: tuple[str, ...] = ()
    job_ids: tuple[str, ...] = ()
    origin_worker_id: str = ""


class Occurred(Value):
    """The same, as the worker says it that holds the task; under which lease."""

    task_id: str
    lease_id: str
    event_id: str
    type: str
    payload: bytes
    time: int
    holon_ids: tuple[str, ...] = ()
    job_ids: tuple[str, ...] = ()
    origin_worker_id: str = ""


class ApprovalResolved(Value, tag_field="kind", tag="approval"):
    """Somebody who may has decided a question; `by` names them, as in `CancelRequested`.

    `data` is a JSON object for the job's state, as text; empty: nothing. `comment` says why. `request_id` is the
    client's name for this wish, by which its repeat is known; empty: it has none. `above` is the parent holon that
    passed it down, and `decided_at` when it was made there, in epoch milliseconds; empty and 0: it was made here.
    """

    approval_id: str
    decision: str
    by: str
    data: bytes = b""
    comment: str = ""
    request_id: str = ""
    above: str = ""
    decided_at: int = 0


# In an encoded event, the tag of its class comes first.
InboxEvent = TaskEnded | BranchesDone | Woken | CancelRequested | ApprovalResolved | Signal | TaskEvent


class HistoryEvent(Value, gc=True, array_like=True):
    """One line of a job's history. `time` is epoch milliseconds; `duration_ms` is of what ended with this event.

    Stores pack it as the list of its fields: another one is another schema of their records.

    The store gives it a number within its job (from 1) and, made from that, a unique id.
    """

    type: str
    time: int
    state: str | None = None
    previous_state: str | None = None
    next_state: str | None = None
    duration_ms: int | None = None
    worker_id: str | None = None
    attempt_number: int | None = None
    task_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


def event_type_of(line: HistoryEvent) -> str:
    """The type of the event that a line of history tells; empty: it tells of none."""
    if line.type in OF_WAITS:
        return line.type
    for prefix in (WORKER_EVENT, BLUEPRINT_EVENT):
        if line.type.startswith(prefix):
            return line.type.removeprefix(prefix)
    return ""


def tells_event(line: HistoryEvent) -> bool:
    """Whether a line of history tells of an event."""
    return event_type_of(line) != ""


def last_event(lines: Sequence[HistoryEvent]) -> int:
    """How many lines of history there are up to the last that tells of an event; 0: none does."""
    return next((place for place in range(len(lines), 0, -1) if tells_event(lines[place - 1])), 0)
