"""The domain: what a job's history amounts to: its tasks, its states, and what went wrong, read line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from holon.domain.children import RUN_BLUEPRINT
from holon.domain.costs import MOST_COST, Cost, total
from holon.domain.digest import Fingerprint
from holon.domain.events import HistoryEvent
from holon.domain.task import FAILURE, task_id
from holon.domain.tree import MAX_ERRORS, Trouble, Visit

# Of so many of its last states it is known when it was in them.
MAX_VISITS = 200
# Of so many generations of a task it is known how they failed, the newest.
MAX_GENERATIONS = 100


@dataclass(slots=True)
class Told:
    """The newest that history tells of a task: how its last attempt ended, or that it was sent.

    `status` is empty while no attempt has ended. `cost` is what its attempts cost, late ones
    included. `generation` is the one of that attempt; 0: that is not known. `child_job_id` is the job that does it as a
    part of this one; empty: it is for a worker.
    """

    id: str
    skill: str
    sent: int
    status: str = ""
    worker_id: str = ""
    attempt: int = 0
    ended: int | None = None
    error: Trouble | None = None
    cost: Cost = None
    child_job_id: str = ""
    generation: int = 0


@dataclass(slots=True)
class _Sent:
    """Tasks that one step asked for: `total` of them, and the jobs that do some of them, by their index."""

    step: int
    total: int
    time: int
    skill: str
    parts: dict[int, str] = field(default_factory=dict)


class Tally:
    """Takes a job's history line by line, the oldest first."""

    def __init__(self, job_id: str) -> None:
        self.fingerprint = Fingerprint()
        self._job_id = job_id
        self._sent: list[_Sent] = []
        self._told: dict[str, Told] = {}
        self._visits: list[Visit] = []
        # By task, how it failed last, as long as it has not done better.
        self._errors: dict[str, Trouble] = {}
        # What attempts cost that ended late, of tasks of which none has ended in time.
        self._late: dict[str, Cost] = {}
        # By task, how its generations failed, with what each one cost.
        self._failed: dict[str, list[Told]] = {}
        self._counts: dict[str, int] = {}
        self.truncated = False

    def __repr__(self) -> str:
        return f"Tally({self._job_id}, lines={self.fingerprint.events}, tasks={len(self)})"

    def __len__(self) -> int:
        return sum([sent.total for sent in self._sent])

    def take_all(self, lines: Sequence[tuple[int, HistoryEvent]]) -> None:
        """The next lines, with their numbers."""
        self.fingerprint.take_all(lines)
        for _, event in lines:
            kind = event.type
            if kind in ("task_dispatched", "sub_blueprint_started"):
                self._dispatched(event)
            elif kind == "task_finished":
                self._finished(event)
            elif kind == "result_superseded":
                self._charged_late(event)
            elif kind == "state_started":
                self._entered(event)

    def _dispatched(self, event: HistoryEvent) -> None:
        details = event.details
        if event.task_id:
            step, index = map(int, event.task_id.rsplit("-", 2)[1:])
            if not self._sent or self._sent[-1].step != step:
                self._sent.append(_Sent(step, 1, event.time, str(details.get("skill", ""))))
            if child := str(details.get("child_job_id", "")):
                self._sent[-1].parts[index] = child
        elif isinstance(details.get("step"), int):
            self._sent.append(_Sent(details["step"], details["branches"], event.time, ""))

    def _finished(self, event: HistoryEvent) -> None:
        details, name = event.details, event.task_id or ""
        status, skill = str(details.get("status", "")), str(details.get("skill", ""))
        before = self._told.get(name)
        if before is not None:
            self._counts[before.status] -= 1
        error = None
        self._errors.pop(name, None)
        if status == FAILURE:
            error = Trouble(str(details.get("code", "")), str(details.get("error", "")), name=skill)
            self._errors[name] = error
            if len(self._errors) > MAX_ERRORS:
                del self._errors[next(iter(self._errors))]
        self._counts[status] = self._counts.get(status, 0) + 1
        cost = total(self._late.pop(name, None) if before is None else before.cost, _cost_in(event))
        worker_id, attempt = event.worker_id or "", event.attempt_number or 0
        if not attempt and (tries := details.get("attempts")):
            # It ended as it waited for another: what was done of it was done in the last that it had.
            worker_id, attempt = str(tries[-1][0]), len(tries)
        generation = details.get("generation")
        told = Told(name, skill, event.time, status, worker_id, attempt, event.time, error, cost)
        told.generation = generation if type(generation) is int else 0
        self._told[name] = told
        if error is not None:
            failed = self._failed.setdefault(name, [])
            # The first one begins as the task is sent, each other one as the one before it ends.
            began = before.ended if before is not None and before.ended is not None else 0
            failed.append(replace(told, sent=began, cost=_cost_in(event)))
            del failed[:-MAX_GENERATIONS]

    def _charged_late(self, event: HistoryEvent) -> None:
        """What an attempt cost that others had overtaken."""
        name, cost = event.task_id or "", _cost_in(event)
        known = self._told.get(name)
        if known is not None:
            known.cost = total(known.cost, cost)
        elif cost is not None:
            self._late[name] = total(self._late.get(name), cost)

    def _entered(self, event: HistoryEvent) -> None:
        if self._visits:
            last = self._visits[-1]
            if last.state == event.state:
                # Its handler is tried again.
                return
            self._visits[-1] = Visit(last.state, last.entered, event.time)
        self._visits.append(Visit(event.state or "", event.time))
        if len(self._visits) > MAX_VISITS:
            del self._visits[0]
            self.truncated = True

    def tasks(self, start: int = 0) -> Iterator[Told]:
        """Every task that was sent, from the one at this place on; their order never changes."""
        for sent in self._sent:
            if start >= sent.total:
                start -= sent.total
                continue
            for index in range(start, sent.total):
                name = task_id(self._job_id, sent.step, index)
                known, part = self._told.get(name), sent.parts.get(index, "")
                if known is None:
                    skill = RUN_BLUEPRINT if part else sent.skill
                    yield Told(name, skill, sent.time, cost=self._late.get(name), child_job_id=part)
                else:
                    known.sent, known.child_job_id = sent.time, part
                    yield known
            start = 0

    def earlier(self, told: Told, generation: int) -> Sequence[Told]:
        """How the generations of a task before this one failed, the oldest first; `sent` is when each began."""
        failed = (one for one in self._failed.get(told.id, ()) if 0 < one.generation < generation)
        return [replace(one, sent=one.sent or told.sent) for one in failed]

    def parts(self) -> list[str]:
        """The jobs that are parts of this one, in the order in which it asked for them."""
        return [part for sent in self._sent for part in sent.parts.values()]

    def counts(self, *, job_is_over: bool = False) -> dict[str, int]:
        """How many tasks have ended with each status; the rest is `open`, or was `cancelled` with the job."""
        counts = {status: count for status, count in self._counts.items() if count}
        left = len(self) - sum(counts.values())
        if left > 0:
            rest = "cancelled" if job_is_over else "open"
            counts[rest] = counts.get(rest, 0) + left
        return counts

    def visits(self, until: int | None) -> tuple[Visit, ...]:
        """The states that the job was in, the oldest first.

        Arguments:
            until: when it ended; None while it has not.
        """
        if until is None or not self._visits:
            return tuple(self._visits)
        last = self._visits[-1]
        return (*self._visits[:-1], Visit(last.state, last.entered, until))

    def errors(self) -> tuple[Trouble, ...]:
        """How tasks failed that have not done better since, the newest first."""
        return tuple(reversed(self._errors.values()))


def _cost_in(event: HistoryEvent) -> Cost:
    cost = event.details.get("cost")
    return cost if type(cost) is int and 0 <= cost <= MOST_COST else None


def final(told: Told, *, job_is_over: bool) -> bool:
    """Whether a task is known to have ended for good: a failure may be tried again."""
    return told.status not in ("", FAILURE) or job_is_over
