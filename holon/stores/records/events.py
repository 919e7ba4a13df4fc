"""What happens to jobs, as bytes: the events of an inbox, and the lines of a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import astuple

from holon.domain.events import (
    ApprovalResolved,
    BranchesDone,
    CancelRequested,
    HistoryEvent,
    InboxEvent,
    TaskEnded,
    TaskEvent,
    Woken,
)
from holon.domain.signals import Signal
from holon.domain.value import replace
from holon.stores.json_text import from_json, to_json
from holon.stores.records.schema import pack, unpack
from holon.stores.records.tasks import outcome_fields, outcome_of


def encode_event(event: InboxEvent) -> bytes:
    """An inbox event as bytes."""
    match event:
        case TaskEnded(step, task_id, outcome, tries):
            return pack("task", step, task_id, outcome_fields(outcome), tries)
        case BranchesDone(step, failed, fail_fast, too_large):
            return pack("branches", step, failed, fail_fast, too_large)
        case Woken(step):
            return pack("woken", step)
        case CancelRequested(by, insist, reason):
            said = (insist, reason) if reason else () if insist else (insist,)
            return pack("cancel", by, *said)
        case ApprovalResolved(question, decision, by, data, comment, request_id, above, decided_at):
            passed = (above, decided_at) if above else ()
            return pack("approval", question, decision, by, data, comment, request_id, *passed)
        case Signal(name, by, data, request_id, above, sent_at):
            return pack("signal", name, by, data, request_id, above, sent_at)
        case TaskEvent():
            return pack("event", *astuple(event))


def decode_event(record: bytes) -> InboxEvent:
    """An inbox event from its bytes."""
    kind, *fields = unpack("event", record)
    match kind:
        case "task":
            return TaskEnded(fields[0], fields[1], outcome_of(fields[2]), fields[3])
        case "branches":
            return BranchesDone(*fields)
        case "woken":
            return Woken(*fields)
        case "cancel":
            return CancelRequested(*fields)
        case "approval":
            return ApprovalResolved(*fields)
        case "signal":
            return Signal(*fields)
        case "event":
            step, task_id, event_id, name, payload, worker_id, time, holon_ids, job_ids, origin = fields
            passed = tuple(holon_ids), tuple(job_ids), origin
            return TaskEvent(step, task_id, event_id, name, payload, worker_id, time, *passed)
        case _:
            raise ValueError(f"an inbox event of kind {kind!r}, which this release does not know")


def encode_inbox(inbox: tuple[tuple[int, InboxEvent], ...]) -> bytes:
    """A job's unread events with their numbers as bytes."""
    return pack([(number, encode_event(event)) for number, event in inbox])


def decode_inbox(record: bytes) -> tuple[tuple[int, InboxEvent], ...]:
    """A job's unread events with their numbers from their bytes."""
    return tuple((number, decode_event(event)) for number, event in unpack("inbox", record)[0])


def to_lines(events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """Lines of a job's history as they are stored: details are JSON text, or empty; raises as `to_json`."""
    return [replace(one, details=to_json(one.details)) if one.details else one for one in events]


def from_lines(lines: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """The same, back."""
    return [replace(one, details=_details(one.details)) if one.details else one for one in lines]


def encode_history(events: Sequence[HistoryEvent]) -> bytes:
    """Lines of a job's history as bytes: lists of their fields."""
    return pack(to_lines(events))


def decode_history(record: bytes) -> list[HistoryEvent]:
    """Lines of a job's history from their bytes."""
    events = []
    for kind, time, state, previous, following, took, worker, attempt, task, details in unpack("history", record)[0]:
        # Most have none: that is not worth a call.
        told = _details(details) if details else {}
        events.append(HistoryEvent(kind, time, state, previous, following, took, worker, attempt, task, told))
    return events


def _details(text: Any) -> dict[str, Any]:
    details: dict[str, Any] = from_json(text) or {}
    return details
