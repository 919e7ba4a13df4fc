"""Chaos: the checker. Each promise is one question to the record of a run; docs/guarantees.md has their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.blueprints import BRANCHES, LOST
from tests.chaos.notes import Note
from tests.chaos.record import Record, finished

COMMITTED = "COMMITTED"
# How a job may end through no fault of the node's: its workers were lost, or a clock was moved past its time.
BAD_LUCK = frozenset({"WORKER_LOST", "TIMEOUT_ERROR", "HANDLER_CRASHED"})
THOUGHTS = 2
OF_THE_STORE = frozenset({"task_finished", "result_superseded", "attempt_lost", "attempt_returned"})
TASKS = {"one": 1, "chain": 3, "fan": BRANCHES, "alone": 0, "think": 0}


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that did not hold: its number, of which job (empty: of none), and what was seen."""

    number: str
    job: str
    what: str


def check(record: Record) -> list[Broken]:
    """Everything that did not hold."""
    return [broken for question in QUESTIONS for broken in question(record)]


def accepted_implies_terminal(record: Record) -> Iterator[Broken]:
    """I1: what was acknowledged is there, is over, and has ended in one way."""
    for jobs in record.accepted.values():
        for job in jobs - record.jobs.keys():
            yield Broken("I1", job, "it was accepted, and no node knows it")
    for job_id, told in record.jobs.items():
        if not told.job.terminal:
            yield Broken("I1", job_id, f"it is not over: {told.job.status} in {told.job.current_state}")
            continue
        ends = [event for event in told.history if event.event_type == "job_completed"]
        if len(ends) != 1:
            yield Broken("I1", job_id, f"its history has {len(ends)} ends")
    for note in record.of("ended"):
        ended = record.jobs.get(note.facts["job"])
        if ended is not None and ended.job.status != note.facts["status"]:
            what = f"{note.by} saw it end {note.facts['status']}, and now it is {ended.job.status}"
            yield Broken("I1", ended.job.id, what)


def ends_rightly(record: Record) -> Iterator[Broken]:
    """I1: a job ends as its blueprint says, but for bad luck."""
    for job_id, told in record.jobs.items():
        job = told.job
        code = job.error.code if job.error is not None else ""
        right = {"finished"} if job.blueprint_name != LOST else {"failed"}
        if job_id in record.cancelled:
            right.add("cancelled")
        if not job.terminal or code in BAD_LUCK:
            continue
        if job.status not in right or (job.status == "failed" and code != "DISPATCH_TIMEOUT"):
            yield Broken("I1", job_id, f"a job {job.blueprint_name} is {job.status} {code}")


def one_job_a_request(record: Record) -> Iterator[Broken]:
    """I2: a request that was repeated made one job, and every job was asked for."""
    for request, jobs in record.accepted.items():
        for job in sorted(jobs)[1:]:
            yield Broken("I2", job, f"request {request} was answered with {len(jobs)} jobs: {sorted(jobs)}")
    asked = sum(1 for _ in record.of("asked"))
    if len(record.jobs) > asked:
        yield Broken("I2", "", f"{asked} jobs were asked for, and there are {len(record.jobs)}")


def steps_are_whole(record: Record) -> Iterator[Broken]:
    """I2: the history has no gap, no line twice, and no step that was decided twice."""
    for job_id, told in record.jobs.items():
        sequences = [event.sequence for event in told.history]
        if sequences != list(range(1, len(sequences) + 1)):
            yield Broken("I2", job_id, f"its history is numbered {sequences}")
        sent = Counter(event.task_id for event in told.history if event.event_type == "task_dispatched")
        for task, count in sent.items():
            if task is not None and count > 1:
                yield Broken("I2", job_id, f"task {task} was decided upon {count} times")
        asked = sum(event.event_type == "job_cancel_requested" for event in told.history)
        if asked > (job_id in record.cancelled):
            yield Broken("I2", job_id, f"its inbox was given {asked} cancels")


def told_lines_stay(record: Record) -> Iterator[Broken]:
    """I2: a line of history that a watcher was told is there for ever, and he was told each once, in their order."""
    last: dict[tuple[str, str], int] = {}
    types = {job: {event.sequence: event.event_type for event in told.history} for job, told in record.jobs.items()}
    for note in record.of("told"):
        job, sequence, kind = note.facts["job"], note.facts["sequence"], note.facts["type"]
        if (now := types.get(job, {}).get(sequence)) != kind:
            yield Broken("I2", job, f"{note.by} was told of {kind} as line {sequence}, which is {now}")
        # One that was killed begins anew.
        before = last.get((note.by, job), 0)
        if sequence not in (before + 1, 1):
            yield Broken("I2", job, f"{note.by} was told of line {sequence} after line {before}")
        last[note.by, job] = sequence


def one_result_a_task(record: Record) -> Iterator[Broken]:
    """I3: each generation of a task has at most one applied outcome."""
    for job_id, told in record.jobs.items():
        applied = Counter((event.task_id, event.context_snapshot["generation"]) for event in finished(told.history))
        for (task, generation), count in applied.items():
            if count > 1:
                yield Broken("I3", job_id, f"task {task} has {count} outcomes of generation {generation}")


def nothing_superseded_is_applied(record: Record) -> Iterator[Broken]:
    """I3: a result that was committed is that of its task's last lease."""
    last: dict[tuple[str, int], int] = {}
    for note in record.offers.values():
        key = (note.facts["task"], note.facts["generation"])
        last[key] = max(last.get(key, 0), note.facts["attempt"])
    for note in record.of("acknowledged"):
        offer = record.offers.get(note.facts["lease"])
        if offer is None or note.facts["verdict"] != COMMITTED:
            continue
        task, attempt = offer.facts["task"], offer.facts["attempt"]
        newest = last[task, offer.facts["generation"]]
        if attempt != newest:
            what = f"the result of attempt {attempt} of {task} was committed, though attempt {newest} was leased"
            yield Broken("I3", _job(task), what)


def committed_is_told(record: Record) -> Iterator[Broken]:
    """I3: a result that was acknowledged as committed is in the history, as its worker's."""
    for note in record.of("acknowledged"):
        offer = record.offers.get(note.facts["lease"])
        if offer is None or note.facts["verdict"] != COMMITTED:
            continue
        task, attempt, generation = (offer.facts[name] for name in ("task", "attempt", "generation"))
        told = record.jobs.get(_job(task))
        ends = [] if told is None else [event for event in finished(told.history) if event.task_id == task]
        right = [event for event in ends if event.context_snapshot["generation"] == generation]
        if [(event.worker_id, event.attempt_number) for event in right] != [(note.by, attempt)]:
            seen = [(event.worker_id, event.attempt_number) for event in right]
            what = f"{note.by}'s result of attempt {attempt} of {task} was committed, and its history has {seen}"
            yield Broken("I3", _job(task), what)


def results_are_those_of_the_history(record: Record) -> Iterator[Broken]:
    """I3: what a job ended with came from the attempts that its history names, one for each task."""
    for job_id, told in record.jobs.items():
        if told.job.status != "finished":
            continue
        ends = {event.task_id: event for event in finished(told.history)}
        right = {
            f"{task} {event.attempt_number} {event.worker_id}"
            for task, event in ends.items()
            if event.context_snapshot["status"] == "success"
        }
        tokens = told.job.result["tokens"]
        if sorted(tokens) != sorted(right):
            yield Broken("I3", job_id, f"it ended with {sorted(tokens)}, and its history has {sorted(right)}")
        if told.job.result.get("thoughts", THOUGHTS) != THOUGHTS:
            yield Broken("I2", job_id, f"its handlers counted {told.job.result['thoughts']} steps")
        if len(ends) != TASKS[told.job.blueprint_name]:
            yield Broken("I2", job_id, f"a job {told.job.blueprint_name} has ends of {len(ends)} tasks")


def credits_are_kept(record: Record) -> Iterator[Broken]:
    """I4: a worker is never given more than it granted."""
    for notes in record.notes.values():
        most = 0
        held: dict[str, Note] = {}
        for note in notes:
            if note.what == "born":
                most, held = note.facts["credits"], {}
            elif note.what == "received":
                held[note.facts["lease"]] = note
                if len(held) > most:
                    what = f"{note.by} granted {most} and was given {len(held)}: {sorted(held)}"
                    yield Broken("I4", _job(note.facts["task"]), what)
            elif note.what in ("sent", "over"):
                held.pop(note.facts["lease"], None)


def leases_are_one_workers(record: Record) -> Iterator[Broken]:
    """I5: no lease is ever given to two workers."""
    holders: dict[str, set[str]] = {}
    for note in record.of("received"):
        holders.setdefault(note.facts["lease"], set()).add(note.by)
    for lease, workers in holders.items():
        if len(workers) > 1:
            yield Broken(
                "I5", _job(record.offers[lease].facts["task"]), f"lease {lease} was given to {sorted(workers)}"
            )


def time_goes_on(record: Record) -> Iterator[Broken]:
    """I9: time never goes back in a job's history, whatever the wall clocks did.

    What steps tell is of when they ran, and written when they are committed; what the store tells of results and of
    ends of attempts may have been written in between. So each is held to its own order.
    """
    for job_id, told in record.jobs.items():
        times: dict[str, list[float]] = {}
        for event in told.history:
            times.setdefault(event.event_type if event.event_type in OF_THE_STORE else "step", []).append(
                event.timestamp
            )
        for kind, own in times.items():
            back = max((before - after for before, after in pairwise(own)), default=0.0)
            if back > record.slack_s:
                yield Broken(
                    "I9", job_id, f"its history goes back in time by {back * 1000:.0f} ms, from {kind} to {kind}"
                )


def nothing_is_left(record: Record) -> Iterator[Broken]:
    """I6, I8: when all is over, nothing is queued, leased or waited for."""
    for what in record.left:
        yield Broken("I6", "", f"left over: {what}")


QUESTIONS: tuple[Callable[[Record], Iterator[Broken]], ...] = (
    accepted_implies_terminal,
    ends_rightly,
    one_job_a_request,
    steps_are_whole,
    told_lines_stay,
    one_result_a_task,
    nothing_superseded_is_applied,
    committed_is_told,
    results_are_those_of_the_history,
    credits_are_kept,
    leases_are_one_workers,
    time_goes_on,
    nothing_is_left,
)


def _job(task: str) -> str:
    return task.rsplit("-", 2)[0]
