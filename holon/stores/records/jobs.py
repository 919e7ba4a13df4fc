"""Jobs as bytes."""

from __future__ import annotations

from typing import Any

from msgspec.structs import astuple

from holon.domain.job import Job, JobError, Question, Status, Waiting
from holon.domain.signals import KeptSignal
from holon.domain.wants import Wants
from holon.domain.wishes import Wish
from holon.stores.json_text import from_json, to_json
from holon.stores.records.schema import pack, unpack
from holon.stores.records.tasks import allowed_of, word_of

# In the place of a result that is the state history, which is there already.
_HISTORY = True


def encode_job(job: Job) -> bytes:
    """A job as bytes.

    Raises:
        InvalidArgument: (NOT_JSON) as for `to_json`.
    """
    waiting, error = job.waiting, job.error
    return pack(
        job.id,
        job.blueprint,
        job.owner,
        to_json(job.initial_data, "initial_data"),
        job.current_state,
        str(job.status),
        job.step,
        job.transitions,
        job.failures,
        job.cancelling,
        to_json(job.state_history, "state_history"),
        waiting and _waiting_fields(waiting),
        job.aggregates,
        _HISTORY if job.result is job.state_history else _returned(job.result),
        error and (error.code, error.message, _returned(error.details), *word_of(error)),
        job.dispatch_timeout,
        job.result_timeout,
        job.trace,
        job.created_at,
        job.plan,
        job.client_params,
        job.priority,
        job.allowed_skills,
        job.budget,
        job.deadline,
        job.parent_job_id,
        job.depth,
        job.parts,
        job.wants and astuple(job.wants),
        job.webhook,
        job.events,
        job.default_priority,
        job.max_transitions,
        [(one.name, to_json(one.data)) for one in job.signals] if job.signals else (),
        [astuple(one) for one in job.wishes] if job.wishes else (),
        job.lost,
    )


def _waiting_fields(waiting: Waiting) -> tuple[Any, ...]:
    """What a job waits for, as plain values; of most, which wait for tasks, it is the first three."""
    question, fields = waiting.question, (waiting.step, waiting.transitions, waiting.aggregate_into)
    if question is None and waiting.due is None and not waiting.events:
        return fields
    asked = question and (question.id, question.message, question.integration, question.asked_at)
    return (*fields, asked, waiting.due, waiting.events)


def _waiting_of(
    step: int,
    transitions: dict[str, str],
    into: str | None,
    asked: list[Any] | None = None,
    due: int | None = None,
    events: dict[str, str] | None = None,
) -> Waiting:
    question = None if asked is None else Question(*asked)
    return Waiting(step, transitions, into, question, due, {} if events is None else events)


def _returned(value: Any) -> bytes | None:
    """What a handler has ended its job with."""
    return None if value is None else to_json(value, "result")


def decode_job(record: bytes) -> Job:
    """A job from its state's bytes."""
    (
        job_id,
        blueprint,
        owner,
        initial_data,
        current_state,
        status,
        step,
        transitions,
        failures,
        cancelling,
        history,
        waiting,
        aggregates,
        result,
        error,
        dispatch_timeout,
        result_timeout,
        trace,
        created_at,
        plan,
        client_params,
        priority,
        allowed_skills,
        budget,
        deadline,
        parent_job_id,
        depth,
        parts,
        wants,
        webhook,
        events,
        default_priority,
        max_transitions,
        signals,
        wishes,
        lost,
    ) = unpack("job", record)
    state_history = from_json(history)
    return Job(
        id=job_id,
        blueprint=blueprint,
        owner=owner,
        initial_data=from_json(initial_data),
        current_state=current_state,
        status=Status(status),
        step=step,
        transitions=transitions,
        failures=failures,
        cancelling=cancelling,
        state_history=state_history,
        waiting=waiting and _waiting_of(*waiting),
        aggregates=aggregates,
        result=state_history if result == _HISTORY else result and from_json(result),
        error=error and JobError(error[0], error[1], error[2] and from_json(error[2]), *error[3:]),
        dispatch_timeout=dispatch_timeout,
        result_timeout=result_timeout,
        trace=trace,
        created_at=created_at,
        plan=plan,
        client_params=client_params,
        priority=priority,
        allowed_skills=allowed_of(allowed_skills),
        budget=budget,
        deadline=deadline,
        parent_job_id=parent_job_id,
        depth=depth,
        parts=tuple(parts),
        wants=wants and Wants(*wants),
        webhook=webhook,
        events=events,
        default_priority=default_priority,
        max_transitions=max_transitions,
        signals=tuple([KeptSignal(name, from_json(text), len(text)) for name, text in signals]) if signals else (),
        wishes=tuple([Wish(*fields) for fields in wishes]) if wishes else (),
        lost=lost,
    )
