"""What tasks need, what they are made of, and how they ended, as bytes."""

from __future__ import annotations

from typing import Any

from holon.domain.job import JobError
from holon.domain.matching import Need
from holon.domain.policy import Allowed
from holon.domain.task import Outcome, RetryPolicy, TaskError
from holon.ports import NewTask
from holon.stores.records.schema import pack, unpack


def outcome_fields(outcome: Outcome) -> tuple[Any, ...]:
    """A task's outcome as plain values."""
    error = outcome.error
    told = error and (error.code, error.message, error.details, *word_of(error))
    return outcome.status, outcome.data, told, outcome.worker_id


def word_of(error: TaskError | JobError) -> tuple[bool, ...]:
    """A holon's word on another try, as plain values; of most errors there is none."""
    return () if error.retryable is None else (error.retryable,)


def outcome_of(fields: list[Any]) -> Outcome:
    """A task's outcome from `outcome_fields`."""
    return Outcome(fields[0], fields[1], fields[2] and TaskError(*fields[2]), fields[3])


def encode_outcome(outcome: Outcome) -> bytes:
    """A task's outcome as bytes."""
    return pack(*outcome_fields(outcome))


def decode_outcome(record: bytes) -> Outcome:
    """A task's outcome from its bytes."""
    return outcome_of(unpack("outcome", record))


def encode_need(need: Need) -> bytes:
    """A need as bytes."""
    return pack(*_need_fields(need))


def _need_fields(need: Need) -> tuple[Any, ...]:
    return (
        need.skill,
        need.version,
        need.type,
        need.contracts,
        need.refused,
        need.allowed_skills,
        need.max_cost,
        need.statuses,
        need.resources,
        need.strategy,
        need.hint,
    )


def _need(fields: list[Any]) -> Need:
    skill, version, kind, contracts, refused, allowed, max_cost, statuses, resources, strategy, hint = fields
    return Need(
        skill,
        version,
        kind,
        tuple(contracts),
        tuple(refused),
        allowed_of(allowed),
        max_cost,
        tuple(statuses),
        resources,
        strategy,
        hint,
    )


def allowed_of(names: list[str] | None) -> Allowed:
    """Which skills work may use, from a list of them."""
    return None if names is None else tuple(names)


def decode_need(record: bytes) -> Need:
    """A need from its bytes."""
    return _need(unpack("need", record))


def encode_chunk(chunk: tuple[NewTask, ...], dispatched: int) -> bytes:
    """Tasks that are not made yet as bytes, with when their fan-out was dispatched."""
    return pack([_new_task_fields(task) for task in chunk], dispatched)


def _new_task_fields(task: NewTask) -> tuple[Any, ...]:
    need, retry = task.need, task.retry
    return (
        task.id,
        task.index,
        _need_fields(need),
        task.params,
        task.priority,
        task.execution_timeout,
        task.dispatch_timeout,
        task.result_timeout,
        (retry.max_retries, retry.first_ms, retry.longest_ms),
        task.trace,
        task.lost_after,
        task.reserves,
    )


def decode_chunk(record: bytes) -> tuple[tuple[NewTask, ...], int | None]:
    """Tasks that are not made yet from their bytes, and when their fan-out was dispatched; None: that was not noted."""
    # It was added at the end, where an earlier release leaves it unread.
    tasks, *dispatched = unpack("chunk", record)
    chunk = tuple(
        NewTask(
            id=fields[0],
            index=fields[1],
            need=_need(fields[2]),
            params=fields[3],
            priority=fields[4],
            execution_timeout=fields[5],
            dispatch_timeout=fields[6],
            result_timeout=fields[7],
            retry=RetryPolicy(*fields[8]),
            trace=fields[9],
            lost_after=fields[10],
            reserves=fields[11],
        )
        for fields in tasks
    )
    return chunk, dispatched[0] if dispatched else None
