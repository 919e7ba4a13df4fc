"""Chaos: the story of one job, from everybody's point of view, in the order in which it happened."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from holon.client import HistoryEvent
from tests.chaos.checker import Broken
from tests.chaos.record import Record

FAULT = "fault"


def shortest(record: Record, broken: Sequence[Broken]) -> str:
    """The story of the job that broke a promise with the fewest lines."""
    jobs = {one.job for one in broken if one.job}
    stories = [tell(record, job) for job in sorted(jobs)]
    return min(stories, key=len, default="")


def tell(record: Record, job: str) -> str:
    """All that happened to a job, and what chaos did meanwhile; times are this machine's."""
    own = sorted(_lines(record, job), key=_when)
    if not own:
        return f"job {job}: nobody knows anything of it"
    first, last = own[0][0] - 1_000, own[-1][0] + 1_000
    faults = [(note.at, "chaos", note.facts["which"]) for note in record.of(FAULT) if first <= note.at <= last]
    # What is of one moment and of one witness stays in his order.
    lines = map(line_of, sorted([*own, *faults], key=_when))
    return "\n".join([f"job {job}", *lines])


def line_of(event: tuple[int, str, str]) -> str:
    """One line of a story: when it was, in epoch milliseconds, who tells of it, and what it was."""
    at, who, what = event
    return f"{_time(at)}  {who:10s} {what}"


def _when(line: tuple[int, str, str]) -> int:
    return line[0]


def _lines(record: Record, job: str) -> Iterator[tuple[int, str, str]]:
    requests = {request for request, jobs in record.accepted.items() if job in jobs}
    for notes in record.notes.values():
        for note in notes:
            facts = note.facts
            of_job = facts.get("job") == job or facts.get("task", "").rsplit("-", 2)[0] == job
            if (of_job or facts.get("request") in requests) and note.what != "told":
                yield note.at, note.by, f"{note.what} {_facts(facts, job)}"
    told = record.jobs.get(job)
    for event in told.history if told is not None else ():
        yield _true_ms(record, event), "history", f"{event.sequence} {event.event_type} {of_event(event, job)}"


def _true_ms(record: Record, event: HistoryEvent) -> int:
    """When something was by this machine's clock, which a node's may be ahead of."""
    at = round(event.timestamp * 1000)
    starts = sorted(record.clocks)
    number = bisect_right(starts, (at, at + 2**40)) - 1
    if number < 0:
        return at
    node_ms, true_ms = starts[number]
    return true_ms + at - node_ms


def of_event(event: HistoryEvent, job: str) -> str:
    """What a line of a job's history tells."""
    facts = {
        "task": event.task_id,
        "worker": event.worker_id,
        "attempt": event.attempt_number,
        "state": event.state,
        **(event.context_snapshot or {}),
    }
    return _facts({name: value for name, value in facts.items() if value is not None}, job)


def _facts(facts: dict[str, Any], job: str) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items() if name != "job").replace(job, "")


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
