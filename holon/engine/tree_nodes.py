"""The nodes of a tree: a job, a task, and a job below, as a tree shows them."""

from __future__ import annotations

from collections.abc import Mapping

from holon.domain.children import shown_skill
from holon.domain.digest import Digest
from holon.domain.job import Status
from holon.domain.tally import Told, final
from holon.domain.tree import Kind, TreeNode, Trouble
from holon.domain.value import replace
from holon.engine.kept import Kept
from holon.engine.session import Session
from holon.ports import JobRecord, TaskRecord

MAX_MESSAGE = 1_024
# What a task's place in the store is called for people.
_WORDS = {"leased": "running", "back_off": "waiting_for_retry"}


def job_node(record: JobRecord, holon_id: str, digest: Digest | None) -> TreeNode:
    """A job of this holon, the root of its tree."""
    job = record.job
    error = error_of(record)
    return TreeNode(
        job.id,
        "",
        Kind.JOB,
        holon_id,
        job.id,
        job.blueprint,
        job.status.value,
        state=job.current_state,
        progress=record.progress,
        error=None if error is None else short(error),
        created_at=record.created_at,
        finished_at=record.finished_at,
        digest=digest,
        cost=record.cost,
    )


def task_node(
    record: JobRecord, holon_id: str, told: Told, row: TaskRecord | None, sessions: Mapping[str, Session]
) -> TreeNode:
    """A task of such a job.

    Arguments:
        told: what the job's history says of it.
        row: what the store has of it, if anything.
        sessions: who is here, by worker.
    """
    over = final(told, job_is_over=record.job.status.terminal) or (row is not None and row.state == "over")
    if over:
        # One of which nobody was heard was ended with what it was for.
        status = told.status or "cancelled"
    else:
        # A branch of a large fan-out may have no place in the store yet.
        status = "queued" if row is None else _word(row, sessions)
    alone = not over and record.job.status is Status.WAITING_FOR_WORKER
    return TreeNode(
        told.id,
        record.job.id,
        Kind.TASK,
        holon_id,
        record.job.id,
        shown_skill(told.skill or (row.need.skill if row is not None else "")),
        status,
        task_id=told.id,
        progress=record.progress if alone else None,
        attempt=max(told.attempt, row.attempt if row is not None else 0),
        worker_id="" if told.child_job_id else (row.worker_id if row is not None and not over else told.worker_id),
        error=None if told.error is None else short(told.error),
        created_at=told.sent,
        finished_at=(told.ended or record.finished_at) if over else None,
        cost=told.cost,
        generation=generation_of(told, row),
    )


def generation_of(told: Told, row: TaskRecord | None) -> int:
    """The newest generation of a task, as far as it is known."""
    return max(1, told.generation, row.generation if row is not None else 0)


def node_id_of(earlier: Told) -> str:
    """The node of an earlier generation of a task."""
    return f"{earlier.id}.{earlier.generation}"


def earlier_node(record: JobRecord, holon_id: str, told: Told) -> TreeNode:
    """An earlier generation of a task, below the task.

    Arguments:
        told: how it failed.
    """
    return TreeNode(
        node_id_of(told),
        told.id,
        Kind.TASK,
        holon_id,
        record.job.id,
        shown_skill(told.skill),
        told.status,
        task_id=told.id,
        attempt=told.attempt,
        worker_id=told.worker_id,
        error=None if told.error is None else short(told.error),
        created_at=told.sent,
        finished_at=told.ended,
        cost=told.cost,
        generation=told.generation,
    )


def offline_node(kept: Kept, told: Told) -> TreeNode:
    """The job behind a task, as its holon told last."""
    summary = kept.summary
    error = summary.errors[0] if summary.errors and summary.status not in (Status.FINISHED, Status.RUNNING) else None
    return TreeNode(
        summary.job_id,
        "",
        Kind.JOB,
        summary.holon_id,
        summary.job_id,
        told.skill,
        summary.status,
        state=summary.state,
        error=error,
        created_at=summary.created_at,
        finished_at=summary.finished_at,
        offline=True,
        as_of=summary.as_of,
        reported=True,
        digest=summary.digest,
        summary=summary,
        cost=summary.cost,
    )


def error_of(record: JobRecord) -> Trouble | None:
    """Why a job ended otherwise than well."""
    error = record.job.error
    return None if error is None else Trouble(error.code, error.message, name=record.job.blueprint)


def short(one: Trouble) -> Trouble:
    """The same, of a message that is not too long to be told."""
    return replace(one, message=one.message[:MAX_MESSAGE])


def _word(row: TaskRecord, sessions: Mapping[str, Session]) -> str:
    """Where a task stands that is not over."""
    session = sessions.get(row.worker_id)
    if session is not None and row.state == "offered" and row.lease_id in session.accepted:
        # The store hears of it within the second.
        return "running"
    return _WORDS.get(row.state, row.state)
