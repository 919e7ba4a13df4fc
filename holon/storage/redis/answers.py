"""What scripts answer, as the records of the ports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from holon.domain.events import BranchesDone, HistoryEvent, InboxEvent, TaskEnded, Woken
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy
from holon.ports import (
    Claim,
    JobRecord,
    Leased,
    LeaseRef,
    Notice,
    Offer,
    Opened,
    Stop,
    StopReason,
    Superseded,
    TaskRecord,
)
from holon.storage.records import decode_event, decode_history, decode_job, decode_need, decode_outcome, job_named_by

# As the client library reads it: bytes, integers, and lists of these.
Answer: TypeAlias = Any

need_of = lru_cache(maxsize=4096)(decode_need)


def outcome_of(record: bytes) -> Outcome:
    """An outcome: a worker's, or one that a script wrote in the place of it."""
    if record.startswith(b"!\n"):
        _, code, message, worker = record.decode().split("\n", 3)
        return Outcome.failed(code, message, worker)
    return decode_outcome(record)


def event_of(record: bytes) -> InboxEvent:
    """An inbox event: one that was appended, or one that a script wrote."""
    kind, rest = record[:1], record[1:]
    match kind:
        case b"E":
            return decode_event(rest)
        case b"T":
            _, step, tries, task, outcome = record.split(b" ", 4)
            return TaskEnded(int(step), task.decode(), outcome_of(outcome), int(tries))
        case b"B":
            step, failed, fail_fast, too_large = rest.split()
            return BranchesDone(int(step), int(failed), fail_fast == b"1", too_large == b"1")
        case b"W":
            return Woken(int(rest))
        case _:
            raise ValueError(f"an inbox event of kind {kind!r}, which this release does not know")


def events_of(answer: Sequence[bytes]) -> tuple[tuple[int, InboxEvent], ...]:
    """Unread events: number, event, number, event..."""
    return tuple((int(answer[at]), event_of(answer[at + 1])) for at in range(0, len(answer), 2))


def claims_of(answer: Answer) -> tuple[Claim, ...]:
    """Claims that were handed over."""
    return tuple(
        Claim(decode_job(state), claim_id.decode(), events_of(events), deliveries)
        for state, claim_id, deliveries, events in answer
    )


def claimed(answer: Answer) -> list[tuple[str, str]]:
    """The jobs and claim ids of claims that were handed over, whichever release wrote their records."""
    return [(job_named_by(state), claim_id.decode()) for state, claim_id, *_ in answer]


def offer_of(fields: Answer) -> Offer:
    """An offer that was made."""
    worker, session, task, lease, job, need, params, priority, generation, attempt, left, deadline, retry, trace = (
        fields
    )
    needed = need_of(need)
    return Offer(
        worker_id=worker.decode(),
        session_id=session.decode(),
        task_id=task.decode(),
        lease_id=lease.decode(),
        job_id=job.decode(),
        skill=needed.skill,
        version=needed.version,
        type=needed.type,
        params=params,
        priority=float(priority),
        generation=generation,
        attempt=attempt,
        time_left=left,
        deadline=deadline,
        retry=_retry(retry),
        trace=trace.decode(),
    )


def _retry(text: bytes) -> RetryPolicy:
    return RetryPolicy(*map(int, text.split()))


def leased_of(answer: Answer) -> Leased:
    """Offers, and the match keys that still have tasks waiting."""
    offers, left = answer
    return Leased(tuple(map(offer_of, offers)), frozenset(key.decode() for key in left))


def opened_of(answer: Answer) -> Opened:
    """What became of a worker's leases."""
    replaced, kept, dropped = answer
    return Opened(
        replaced.decode() or None,
        tuple(map(offer_of, kept)),
        tuple((task.decode(), lease.decode(), Superseded(why.decode())) for task, lease, why in dropped),
    )


def stop_of(text: bytes) -> Stop:
    """What a worker is to stop."""
    _, reason, worker, session, task, lease = text.decode().split(" ")
    return Stop(LeaseRef(worker, session, task, lease), StopReason(reason.replace("_", " ")))


def record_of(fields: Answer) -> JobRecord:
    """A job as clients see it."""
    state, created, updated, finished, progress, message, deliveries, told, need, number = fields
    return JobRecord(
        job=decode_job(state).seen(int(deliveries or 0)),
        created_at=int(created),
        updated_at=int(updated),
        finished_at=int(finished) if finished else None,
        progress=float(progress) if progress else None,
        progress_message=message.decode(),
        queued_need=need_of(need) if need else None,
        sequence=int(told or 0),
        number=number,
    )


TASK_FIELDS = ("job", "place", "need", "lease", "worker", "generation", "attempt", "retry", "params")


def task_of(task_id: str, fields: Answer) -> TaskRecord | None:
    """A task from its `TASK_FIELDS`; None when there is none."""
    job, place, need, lease, worker, generation, attempt, retry, params = (one or b"" for one in fields)
    if not job:
        return None
    return TaskRecord(
        id=task_id,
        job_id=job.decode(),
        state=place.decode(),
        need=need_of(need),
        lease_id=lease.decode(),
        worker_id=worker.decode(),
        generation=int(generation),
        attempt=int(attempt or 0),
        retry=_retry(retry),
        params=params,
    )


def needs_of(answer: Answer) -> dict[str, tuple[Need, int]]:
    """The match keys that have waiting tasks: what each needs, and how many wait."""
    return {key.decode(): (need_of(need), int(count)) for key, need, count in answer}


def history_of(entry: Answer) -> list[tuple[int, HistoryEvent]]:
    """The lines of history that one entry holds, with their numbers."""
    place, fields = entry
    last = int(place.split(b"-")[0])
    if fields[0] == b"e":
        events = decode_history(fields[1])
        return list(enumerate(events, start=last - len(events) + 1))
    line = dict(zip(fields[::2], fields[1::2], strict=True))
    return [(last, _finished(line) if line[b"k"] == b"F" else _superseded(line))]


def notice_of(answer: Answer) -> Notice:
    """What is to be moved of a job's history."""
    member, record, entry = answer
    lines = history_of(entry)
    return Notice(member.decode(), record_of(record), lines[0][0], tuple(event for _, event in lines))


def _superseded(line: dict[bytes, bytes]) -> HistoryEvent:
    return HistoryEvent(
        "result_superseded",
        int(line[b"t"]),
        worker_id=line[b"w"].decode(),
        task_id=line[b"i"].decode(),
        details={"reason": line[b"r"].decode(), "status": line[b"s"].decode()},
    )


def _finished(line: dict[bytes, bytes]) -> HistoryEvent:
    details: dict[str, Any] = {
        "status": line[b"s"].decode(),
        "skill": need_of(line[b"n"]).skill,
        "generation": int(line[b"g"]),
        "attempts": [_attempt(text) for text in line[b"l"].decode().split(";") if text],
    }
    if line[b"c"]:
        details |= {"code": line[b"c"][1:].decode(), "error": line[b"e"].decode()}
    return HistoryEvent(
        "task_finished",
        int(line[b"t"]),
        duration_ms=int(line[b"d"]) if line[b"d"] else None,
        worker_id=line[b"w"].decode() or None,
        attempt_number=int(line[b"a"]),
        task_id=line[b"i"].decode(),
        details=details,
    )


def _attempt(text: str) -> list[Any]:
    worker, *times = text.split(" ")
    return [worker, *(None if time == "-" else int(time) for time in times)]
