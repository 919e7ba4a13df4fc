"""What operations answer, as the records of the ports. What cannot be opened raises SealBroken, but in a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote

import msgpack

from holon.domain.attempts import Loss, Unfinished, unfinished_line
from holon.domain.events import BranchesDone, HistoryEvent, InboxEvent, TaskEnded, Woken
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy, job_of
from holon.ports import (
    Claim,
    Creation,
    JobRecord,
    Leased,
    LeaseRef,
    Notice,
    Offer,
    Opened,
    Replaced,
    Stop,
    StopReason,
    Superseded,
    TaskRecord,
)
from holon.storage.redis.arguments import MOST_REMEMBERED
from holon.stores.records import decode_event, decode_history, decode_job, decode_need, decode_outcome
from holon.stores.sealing import Seal, SealBroken
from holon.turns import Turn

# As the client library reads it: bytes, integers, and lists of these.
Answer: TypeAlias = Any

# The answer to a caller whose jobs are created, and who has nothing else to be told.
ALL_CREATED = 1

_known_need_of = lru_cache(maxsize=4096)(decode_need)


def need_of(record: bytes) -> Need:
    """A need from its bytes; what one needs, many do."""
    return (_known_need_of if len(record) <= MOST_REMEMBERED else decode_need)(record)


def outcome_of(task: str, record: bytes, seal: Seal) -> Outcome:
    """An outcome of a task: a worker's, or one that a script wrote in the place of it."""
    if record.startswith(b"!\n"):
        _, code, message, worker, *share_lost = record.decode().split("\n", 4)
        return Outcome.failed(code, message, worker, retryable=True if share_lost else None)
    return decode_outcome(seal.open("tasks", task, "outcome", record))


def event_of(job_id: str, record: bytes, seal: Seal) -> InboxEvent:
    """An event of a job's inbox: one that was appended, or one that a script wrote."""
    kind, rest = record[:1], record[1:]
    match kind:
        case b"E":
            return decode_event(seal.open("inbox", job_id, "event", rest))
        case b"T":
            _, step, tries, name, outcome = record.split(b" ", 4)
            task = name.decode()
            return TaskEnded(int(step), task, outcome_of(task, outcome, seal), int(tries))
        case b"B":
            step, failed, fail_fast, too_large = rest.split()
            return BranchesDone(int(step), int(failed), fail_fast == b"1", too_large == b"1")
        case b"W":
            return Woken(int(rest))
        case _:
            raise ValueError(f"an inbox event of kind {kind!r}, which this release does not know")


def events_of(job_id: str, answer: Sequence[bytes], seal: Seal) -> tuple[tuple[int, InboxEvent], ...]:
    """Unread events of a job: number, event, number, event..."""
    return tuple((int(answer[at]), event_of(job_id, answer[at + 1], seal)) for at in range(0, len(answer), 2))


def created_of(answer: Answer) -> tuple[tuple[str, Creation], ...]:
    """What became of jobs that were to be created: id, outcome, id, outcome..."""
    return tuple((answer[at].decode(), Creation(answer[at + 1].decode())) for at in range(0, len(answer), 2))


def claims_of(answer: Answer, seal: Seal) -> tuple[Claim, ...]:
    """Claims that were handed over, but those that cannot be opened."""
    claims: list[Claim] = []
    for name, state, claim_id, deliveries, events in answer:
        job_id = name.decode()
        with suppress(SealBroken):
            job = decode_job(seal.open("jobs", job_id, "state", state))
            claims.append(Claim(job, claim_id.decode(), events_of(job_id, events, seal), deliveries))
    return tuple(claims)


def claimed(answer: Answer) -> list[tuple[str, str]]:
    """The jobs and claim ids of claims that were handed over, whether they can be read or not."""
    return [(job_id.decode(), claim_id.decode()) for job_id, _, claim_id, *_ in answer]


def offer_of(fields: Answer, seal: Seal) -> Offer:
    """An offer that was made."""
    head, worker, session, lease, carried, generation, attempt, left, deadline, lasts, price = fields
    # What the task was made with, as it is stored: values without the number of them before.
    task, _, _, need, priority, _, retry, _ = msgpack.unpackb(b"\x98" + head, raw=True)
    size, _, rest = carried.partition(b"\n")
    params, trace = rest[int(size) :], rest[: int(size)]
    needed, name = need_of(need), task.decode()
    return Offer(
        worker_id=worker.decode(),
        session_id=session.decode(),
        task_id=name,
        lease_id=lease.decode(),
        job_id=job_of(name),
        skill=needed.skill,
        version=needed.version,
        type=needed.type,
        params=seal.open("tasks", name, "params", params),
        priority=float(priority),
        generation=generation,
        attempt=attempt,
        time_left=left,
        deadline=deadline,
        retry=_retry(retry),
        trace=trace.decode(),
        lasts=lasts,
        allowed_skills=needed.allowed_skills,
        max_cost=needed.max_cost if price is None else price,
        contracts=needed.contracts,
        statuses=needed.statuses,
        resources=needed.resources,
        hint=needed.hint,
    )


def _retry(text: bytes) -> RetryPolicy:
    return RetryPolicy(*map(int, text.split()))


# An offer is so many of the values of a list of them, and at which place are the params.
_OFFER = 11
_CARRIED = 4


def _offers(values: Answer) -> Iterator[Answer]:
    return (values[at : at + _OFFER] for at in range(0, len(values), _OFFER))


def leased_of(answer: Answer, seal: Seal) -> Leased:
    """Offers, but those that cannot be opened, which lapse; and the match keys that still have tasks waiting."""
    made, left = answer
    offers: list[Offer] = []
    for fields in _offers(made):
        with suppress(SealBroken):
            offers.append(offer_of(fields, seal))
    return Leased(tuple(offers), frozenset(key.decode() for key in left))


def _kept(fields: Answer, seal: Seal) -> Offer:
    """An offer whose worker has the params already."""
    try:
        return offer_of(fields, seal)
    except SealBroken:
        return offer_of([*fields[:_CARRIED], b"0\n", *fields[_CARRIED + 1 :]], seal)


def opened_of(answer: Answer, seal: Seal) -> tuple[Opened, int | None]:
    """What became of a worker's leases, and the place of the session in the order of them."""
    replaced, kept, dropped, order, losses, outranked = answer
    opened = Opened(
        replaced.decode() or None,
        tuple(_kept(fields, seal) for fields in _offers(kept)),
        tuple((task.decode(), lease.decode(), Superseded(why.decode())) for task, lease, why in dropped),
        losses_of(losses),
        bool(outranked),
    )
    return opened, int(order) if order else None


def losses_of(values: Answer) -> tuple[Loss, ...]:
    """The attempts that were lost or timed out: worker, session, need, code, worker..."""
    some = (values[at : at + 4] for at in range(0, len(values), 4))
    return tuple(
        Loss(worker.decode(), session.decode(), need_of(need).skill, code.decode())
        for worker, session, need, code in some
    )


def told_of(texts: Sequence[bytes]) -> tuple[tuple[Stop, ...], tuple[Replaced, ...]]:
    """What workers are to be told: what they are to stop, and which of their sessions were replaced."""
    stops: list[Stop] = []
    replaced: list[Replaced] = []
    for text in texts:
        _, reason, worker, session, *what = text.decode().split(" ")
        if reason == "replaced":
            newer, instance = what
            replaced.append(Replaced(session, newer, unquote(instance)))
        else:
            stops.append(Stop(LeaseRef(worker, session, *what), StopReason(reason.replace("_", " "))))
    return tuple(stops), tuple(replaced)


def record_of(fields: Answer, seal: Seal) -> JobRecord:
    """A job as clients see it."""
    state, created, updated, finished, progress, message, deliveries, told, need, number, name, *money = fields
    cost, unreported, again_at, of_branch = money
    job_id = name.decode()
    return JobRecord(
        job=decode_job(seal.open("jobs", job_id, "state", state)).seen(int(deliveries or 0)),
        created_at=int(created),
        updated_at=int(updated),
        finished_at=int(finished) if finished else None,
        progress=float(progress) if progress else None,
        progress_message=seal.open_text("jobs", job_id, "message", message),
        queued_need=need_of(need) if need else None,
        sequence=int(told or 0),
        number=number,
        cost=int(cost) if cost else None,
        unreported=int(unreported),
        again_at=int(again_at) if again_at else None,
        branch_need=need_of(of_branch) if of_branch else None,
    )


async def records_of(answer: Answer, seal: Seal) -> list[tuple[JobRecord, int]]:
    """Jobs as clients see them, each with the bytes of its state, but those that cannot be opened.

    Others run in between where the jobs are large.
    """
    records: list[tuple[JobRecord, int]] = []
    turn = Turn()
    for fields in answer:
        if turn.over:
            await turn.rest()
        with suppress(SealBroken):
            records.append((record_of(fields, seal), len(fields[0])))
    return records


def task_of(task_id: str, fields: Answer, seal: Seal) -> TaskRecord:
    """A task as it is."""
    place, need, lease, worker, generation, attempt, retry, params, result_due, begun, unserved = fields
    return TaskRecord(
        id=task_id,
        job_id=job_of(task_id),
        state=place.decode(),
        need=need_of(need),
        lease_id=lease.decode(),
        worker_id=worker.decode(),
        generation=generation,
        attempt=attempt,
        retry=_retry(retry),
        params=seal.open("tasks", task_id, "params", params),
        result_due=int(result_due) if result_due else None,
        begun=bool(begun),
        unserved=tuple(who.decode() for who in unserved),
    )


def needs_of(answer: Answer) -> dict[str, tuple[Need, int]]:
    """The match keys that have waiting tasks: what each needs, and how many wait."""
    return {key.decode(): (need_of(need), int(count)) for key, need, count in answer}


def history_of(job_id: str, last: int, record: bytes, seal: Seal) -> list[tuple[int, HistoryEvent]]:
    """The lines of a job's history in one record, with their numbers; that of the last is known."""
    match record[:1]:
        case b"F":
            return [(last, _finished(record[1:], seal))]
        case b"S":
            return [(last, _superseded(record[1:]))]
        case b"L":
            return [(last, _unfinished(record[1:]))]
        case _:
            events = decode_history(seal.open("history", job_id, "lines", record))
            return list(enumerate(events, start=last - len(events) + 1))


def notices_of(answer: Answer, seal: Seal) -> list[Notice]:
    """What is to be moved of jobs' histories, but what cannot be opened."""
    notices: list[Notice] = []
    for member, fields, last, told in answer:
        with suppress(SealBroken):
            record = record_of(fields, seal)
            lines = history_of(record.job.id, int(last), told, seal)
            notices.append(Notice(member.decode(), record, lines[0][0], tuple(event for _, event in lines)))
    return notices


def size_of_notice(answer: Answer) -> int:
    """About how many bytes that is."""
    _, record, _, told = answer
    return len(record[0]) + len(told)


def _texts(record: bytes) -> list[bytes]:
    """What a script wrote of a line: texts, which may be no UTF-8 where they are records of their own."""
    texts: list[bytes] = msgpack.unpackb(record, raw=True)
    return texts


def _superseded(record: bytes) -> HistoryEvent:
    time, worker, task, reason, status, *cost = _texts(record)
    details: dict[str, Any] = {"reason": reason.decode(), "status": status.decode()}
    return HistoryEvent(
        "result_superseded",
        int(time),
        worker_id=worker.decode(),
        task_id=task.decode(),
        details=details | _cost(cost),
    )


def _unfinished(record: bytes) -> HistoryEvent:
    time, took, worker, attempt, task, need, generation, reason, code = _texts(record)
    return unfinished_line(
        Unfinished(reason.decode()),
        int(time),
        int(attempt),
        worker_id=worker.decode(),
        task_id=task.decode(),
        code=code.decode(),
        took=int(took),
        details={"skill": need_of(need).skill, "generation": int(generation)},
    )


def _finished(record: bytes, seal: Seal) -> HistoryEvent:
    time, took, worker, attempt, name, status, need, generation, attempts, code, message, *cost = _texts(record)
    task = name.decode()
    details: dict[str, Any] = {
        "status": status.decode(),
        "skill": need_of(need).skill,
        "generation": int(generation),
        "attempts": [_attempt(text) for text in attempts.decode().split(";") if text],
    }
    if code:
        details |= {"code": code[1:].decode(), "error": seal.open_text("tasks", task, "error", message)}
    return HistoryEvent(
        "task_finished",
        int(time),
        duration_ms=int(took) if took else None,
        worker_id=worker.decode() or None,
        attempt_number=int(attempt),
        task_id=task,
        details=details | _cost(cost),
    )


def _cost(told: Sequence[bytes]) -> dict[str, int]:
    """What an attempt cost; an earlier release did not say."""
    return {"cost": int(told[0])} if told and told[0] else {}


def _attempt(text: str) -> list[Any]:
    worker, *times = text.split(" ")
    return [worker, *(None if time == "-" else int(time) for time in times)]
