"""What operations answer, as the records of the ports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgpack

from holon.domain.events import BranchesDone, HistoryEvent, InboxEvent, TaskEnded, Woken
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy, job_of
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


def opened_of(answer: Answer) -> tuple[Opened, int | None]:
    """What became of a worker's leases, and the place of the session in the order of them."""
    replaced, kept, dropped, order = answer
    opened = Opened(
        replaced.decode() or None,
        tuple(map(offer_of, kept)),
        tuple((task.decode(), lease.decode(), Superseded(why.decode())) for task, lease, why in dropped),
    )
    return opened, int(order) if order else None


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


TASK_FIELDS = ("n", "place", "need", "lease", "worker", "generation", "attempt", "terms", "params")


def task_of(task_id: str, fields: Answer) -> TaskRecord | None:
    """A task from its `TASK_FIELDS`; None when there is none."""
    number, place, need, lease, worker, generation, attempt, terms, params = (one or b"" for one in fields)
    if not number:
        return None
    _, _, retry = terms.split(b" ", 2)
    return TaskRecord(
        id=task_id,
        job_id=job_of(task_id),
        state=place.decode(),
        need=need_of(need),
        lease_id=lease.decode(),
        worker_id=worker.decode(),
        generation=int(generation or 1),
        attempt=int(attempt or 0),
        retry=_retry(retry),
        params=params,
    )


def needs_of(answer: Answer) -> dict[str, tuple[Need, int]]:
    """The match keys that have waiting tasks: what each needs, and how many wait."""
    return {key.decode(): (need_of(need), int(count)) for key, need, count in answer}


def history_of(last: int, record: bytes) -> list[tuple[int, HistoryEvent]]:
    """The lines of history of one record, with their numbers; that of the last is known."""
    match record[:1]:
        case b"F":
            return [(last, _finished(record[1:]))]
        case b"S":
            return [(last, _superseded(record[1:]))]
        case _:
            events = decode_history(record)
            return list(enumerate(events, start=last - len(events) + 1))


def notice_of(answer: Answer) -> Notice:
    """What is to be moved of a job's history."""
    member, record, last, told = answer
    lines = history_of(int(last), told)
    return Notice(member.decode(), record_of(record), lines[0][0], tuple(event for _, event in lines))


def size_of_notice(answer: Answer) -> int:
    """About how many bytes that is."""
    _, record, _, told = answer
    return len(record[0]) + len(told)


def _texts(record: bytes) -> list[bytes]:
    """What a script wrote of a line: texts, which may be no UTF-8 where they are records of their own."""
    texts: list[bytes] = msgpack.unpackb(record, raw=True)
    return texts


def _superseded(record: bytes) -> HistoryEvent:
    time, worker, task, reason, status = _texts(record)
    return HistoryEvent(
        "result_superseded",
        int(time),
        worker_id=worker.decode(),
        task_id=task.decode(),
        details={"reason": reason.decode(), "status": status.decode()},
    )


def _finished(record: bytes) -> HistoryEvent:
    time, took, worker, attempt, task, status, need, generation, attempts, code, message = _texts(record)
    details: dict[str, Any] = {
        "status": status.decode(),
        "skill": need_of(need).skill,
        "generation": int(generation),
        "attempts": [_attempt(text) for text in attempts.decode().split(";") if text],
    }
    if code:
        details |= {"code": code[1:].decode(), "error": message.decode()}
    return HistoryEvent(
        "task_finished",
        int(time),
        duration_ms=int(took) if took else None,
        worker_id=worker.decode() or None,
        attempt_number=int(attempt),
        task_id=task.decode(),
        details=details,
    )


def _attempt(text: str) -> list[Any]:
    worker, *times = text.split(" ")
    return [worker, *(None if time == "-" else int(time) for time in times)]
