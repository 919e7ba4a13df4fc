"""The domain: jobs that wait for a person, a signal or a time, and no task's end."""

from __future__ import annotations

import math
from typing import Any

from holon.domain.change import Change, Limits
from holon.domain.decisions import AwaitApproval, AwaitSignal, Sleep
from holon.domain.event_types import APPROVAL_REQUESTED, SIGNAL_AWAITED
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, Question, Status, Waiting
from holon.domain.retries import back_off
from holon.domain.signals import first_of
from holon.domain.task import TIMEOUT
from holon.domain.value import replace


def ask(job: Job, decision: AwaitApproval, now: int, went_on: dict[str, Any], told: tuple[HistoryEvent, ...]) -> Change:
    # A step is written once, so its number makes a question that no other is.
    question = Question(f"{job.id}-{job.step}", decision.message, decision.integration, now)
    after = None if decision.timeout_seconds is None else _milliseconds(decision.timeout_seconds)
    due = None if after is None else now + after
    waiting = Waiting(job.step, dict(decision.transitions), None, question, due)
    details: dict[str, Any] = {
        "approval_id": question.id,
        "integration": question.integration,
        "message": question.message,
        "decisions": list(waiting.decisions),
    }
    if due is not None:
        details["until"] = due / 1000
    asked = HistoryEvent(APPROVAL_REQUESTED, now, job.current_state, details=details)
    waits = {"status": Status.WAITING_FOR_HUMAN, "waiting": waiting, "events": job.events + 1}
    return Change(replace(job, **went_on | waits), (*told, asked), wake_after=after)


def await_signal(
    job: Job, decision: AwaitSignal, now: int, went_on: dict[str, Any], told: tuple[HistoryEvent, ...]
) -> Change:
    after = None if decision.timeout_seconds is None else _milliseconds(decision.timeout_seconds)
    due = None if after is None else now + after
    waiting = Waiting(job.step, dict(decision.transitions), due=due)
    place = first_of(job.signals, waiting.decisions)
    if place is not None:
        kept = job.signals[place]
        target = decision.transitions[kept.name]
        taken = HistoryEvent("signal_taken", now, job.current_state, None, target, details={"name": kept.name})
        went_on |= {
            "current_state": target,
            "state_history": {**went_on["state_history"], **kept.data},
            "signals": (*job.signals[:place], *job.signals[place + 1 :]),
        }
        return Change(replace(job, **went_on), (*told, taken))
    details: dict[str, Any] = {"names": list(waiting.decisions)} | ({} if due is None else {"until": due / 1000})
    began = HistoryEvent(SIGNAL_AWAITED, now, job.current_state, details=details)
    waits = {"status": Status.WAITING_FOR_SIGNAL, "waiting": waiting, "events": job.events + 1}
    return Change(replace(job, **went_on | waits), (*told, began), wake_after=after)


def pause(job: Job, decision: Sleep, now: int, went_on: dict[str, Any], told: tuple[HistoryEvent, ...]) -> Change:
    after = _milliseconds(decision.seconds)
    waiting = Waiting(job.step, {TIMEOUT: decision.state}, due=now + after)
    waits = {"status": Status.WAITING_FOR_TIMER, "waiting": waiting}
    details = {"until": (now + after) / 1000}
    began = HistoryEvent("timer_started", now, job.current_state, None, decision.state, details=details)
    return Change(replace(job, **went_on | waits), (*told, began), wake_after=after)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def stays(job: Job, limits: Limits, now: int, chance: float) -> Change:
    """Nothing that came in leads on. A step ends its job's timer: who waits for that waits for what is left of it.

    Arguments:
        now: epoch milliseconds.
        chance: a random number in [0, 1), for the jitter.
    """
    waiting = job.waiting
    if waiting is None:
        return Change(job)
    if waiting.due is None:
        if job.status is not Status.WAITING_FOR_RETRY:
            return Change(job)
        # An older release did not note when it is tried again.
        after = back_off(limits.retry, job.failures, chance)
        return Change(replace(job, waiting=replace(waiting, step=job.step, due=now + after)), wake_after=after)
    # The timer that is started now names this step; what it waits for is over when it was to be.
    again = replace(job, waiting=replace(waiting, step=job.step))
    return Change(again, wake_after=max(0, waiting.due - now))
