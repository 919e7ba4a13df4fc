"""The client: what it answers with, as plain values. Times are epoch seconds; what JSON carried is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from holon.domain import events as domain
from holon.rxon.v1 import job_pb2, types_pb2

# What is large of a job is told by name alone, and whoever names some of it has to name the rest.
ALL_FIELDS = tuple(job_pb2.Job.DESCRIPTOR.fields_by_name)


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A job that is durable. `existing` says that an earlier call with the same request id made it."""

    job_id: str
    existing: bool


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job did not finish."""

    code: str
    message: str
    details: Any


@dataclass(frozen=True, slots=True)
class Approval:
    """The decision of a person that a job waits for.

    Attributes:
        approval_id: names the question.
        message: what is asked.
        integration: what it is meant for, as its blueprint says.
        decisions: what may be decided.
        requested_at: when it was asked.
        expires_at: until when a decision is waited for; None: for ever.
        approval_token: the right to decide it once, for a person without the owner's token; empty in lists and watches.
    """

    approval_id: str
    message: str
    integration: str
    decisions: tuple[str, ...]
    requested_at: float
    expires_at: float | None
    approval_token: str = ""


@dataclass(frozen=True, slots=True)
class PendingSignal:
    """The signals that a job waits for, the first of which leads it on.

    Attributes:
        names: what they are called.
        expires_at: until when one is waited for; None: for ever.
    """

    names: tuple[str, ...]
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when it was read.

    Attributes:
        progress: 0 to 100, or None when it is not known.
        progress_message: how far it is, or what it waits for.
        result: only once it is finished.
        error: only once it has ended otherwise.
        terminal: whether it is over; whatever statuses a later node may have.
        cost: what it was charged so far, in millionths of the cost unit; None while that is nothing.
        budget: what its tasks may cost together; None without a limit.
        approval: the decision of a person that it waits for; None where it waits for none.
        signal: the signals that it waits for; None where it waits for none.
        kept_signals: how many it keeps that it has not waited for yet.
        parent_job_id: the job that it is a part of; None: of none.
        initial_data: what it was created with; None where that was not asked for, or where only history has the job.
        state_history: what its handlers and its tasks have gathered; None as for `initial_data`.
    """

    id: str
    blueprint_name: str
    status: str
    current_state: str
    progress: float | None
    progress_message: str
    result: Any
    error: JobError | None
    created_at: float
    updated_at: float
    finished_at: float | None
    terminal: bool
    cost: int | None = None
    budget: int | None = None
    approval: Approval | None = None
    signal: PendingSignal | None = None
    kept_signals: int = 0
    parent_job_id: str | None = None
    initial_data: Any = None
    state_history: Any = None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is. `percent` is 0 to 100, or None when it is not known."""

    percent: float | None
    message: str
    status: str
    current_state: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to create, as for `Client.create_job`; without a request id it gets a new one."""

    blueprint: str
    initial_data: Any = None
    request_id: str | None = None
    dispatch_timeout: float | None = None
    result_timeout: float | None = None
    allowed_skills: Sequence[str] | None = None
    budget: int | None = None
    webhook_url: str | None = None
    priority: float | None = None
    max_transitions: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One thing that happened to a job; what does not apply to it is None."""

    event_id: str
    job_id: str
    sequence: int
    timestamp: float
    event_type: str
    state: str | None
    previous_state: str | None
    next_state: str | None
    duration_ms: int | None
    worker_id: str | None
    attempt_number: int | None
    task_id: str | None
    context_snapshot: Any


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a task's log.

    `time` is epoch seconds of its worker's clock, `level` one of debug, info, warning and error. Of a line that came
    from a part of the job, or from holons below, `fields` say where it was written: `job_id` and `task_id`, and the
    `holon_ids` that it passed, the lowest first.
    """

    time: float
    level: str
    text: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobLogs:
    """Lines that one attempt of a task of a job wrote, in the order written."""

    task_id: str
    attempt: int
    lines: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """One thing that a watched job had to tell: exactly one of `job`, `event`, `progress` and `logs` is set.

    Attributes:
        sequence: where to go on after, should the watch end here.
        job: as it is, at first and after a new connection; and as it ended, at last.
        event: a line of its history.
        progress: the newest word of how far it is.
        logs: what a task of it wrote in its log, where that was asked for.
    """

    sequence: int
    job: Job | None = None
    event: HistoryEvent | None = None
    progress: JobProgress | None = None
    logs: JobLogs | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first. The token asks for the page after; empty: this is the last."""

    jobs: tuple[Job, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Events, oldest first. The token asks for the page after; empty: this is the last."""

    events: tuple[HistoryEvent, ...]
    next_page_token: str


def job_of(message: job_pb2.Job) -> Job:
    """Read a job off the wire."""
    return Job(
        id=message.id,
        blueprint_name=message.blueprint_name,
        status=message.status,
        current_state=message.current_state,
        progress=message.progress if message.HasField("progress") else None,
        progress_message=message.progress_message,
        result=value_of(message.result) if message.HasField("result") else None,
        error=_error(message.error) if message.HasField("error") else None,
        created_at=seconds_of(message.created_at),
        updated_at=seconds_of(message.updated_at),
        finished_at=seconds_of(message.finished_at) if message.HasField("finished_at") else None,
        terminal=message.terminal,
        cost=message.cost if message.HasField("cost") else None,
        budget=message.budget if message.HasField("budget") else None,
        approval=_approval(message.approval) if message.HasField("approval") else None,
        signal=_signal(message.signal) if message.HasField("signal") else None,
        kept_signals=message.kept_signals,
        parent_job_id=message.parent_job_id or None,
        initial_data=value_of(message.initial_data) if message.HasField("initial_data") else None,
        state_history=value_of(message.state_history) if message.HasField("state_history") else None,
    )


def event_of(message: job_pb2.HistoryEvent) -> HistoryEvent:
    """Read a line of a job's history off the wire."""
    return HistoryEvent(
        event_id=message.event_id,
        job_id=message.job_id,
        sequence=message.sequence,
        timestamp=seconds_of(message.timestamp),
        event_type=message.event_type,
        state=message.state or None,
        previous_state=message.previous_state or None,
        next_state=message.next_state or None,
        duration_ms=message.duration_ms if message.HasField("duration_ms") else None,
        worker_id=message.worker_id or None,
        attempt_number=message.attempt_number if message.HasField("attempt_number") else None,
        task_id=message.task_id or None,
        context_snapshot=value_of(message.context_snapshot) if message.HasField("context_snapshot") else None,
    )


def line_of(event: HistoryEvent) -> domain.HistoryEvent:
    """A line of a job's history, as its node has it."""
    return domain.HistoryEvent(
        event.event_type,
        round(event.timestamp * 1000),
        event.state,
        event.previous_state,
        event.next_state,
        event.duration_ms,
        event.worker_id,
        event.attempt_number,
        event.task_id,
        event.context_snapshot or {},
    )


def update_of(message: job_pb2.WatchJobResponse) -> Update | None:
    """Read what a watched job tells off the wire; None where it says nothing, or nothing that is known here."""
    kind = message.WhichOneof("update")
    if kind == "job":
        return Update(message.sequence, job=job_of(message.job))
    if kind == "event":
        return Update(message.sequence, event=event_of(message.event))
    if kind == "progress":
        progress = message.progress
        percent = progress.percent if progress.HasField("percent") else None
        told = JobProgress(percent, progress.message, progress.status, progress.current_state)
        return Update(message.sequence, progress=told)
    if kind == "logs":
        lines = tuple(map(_log_line, message.logs.lines))
        return Update(message.sequence, logs=JobLogs(message.logs.task_id, message.logs.attempt, lines))
    return None


def _log_line(line: types_pb2.LogLine) -> LogLine:
    return LogLine(seconds_of(line.time), _level(line), line.text, value_of(line.fields) or {})


def _level(line: types_pb2.LogLine) -> str:
    known = line.level in types_pb2.LogLevel.values() and line.level != types_pb2.LOG_LEVEL_UNSPECIFIED
    return types_pb2.LogLevel.Name(line.level).removeprefix("LOG_LEVEL_").lower() if known else "info"


def _approval(message: job_pb2.PendingApproval) -> Approval:
    return Approval(
        message.approval_id,
        message.message,
        message.integration,
        tuple(message.decisions),
        seconds_of(message.requested_at),
        seconds_of(message.expires_at) if message.HasField("expires_at") else None,
        message.approval_token,
    )


def _signal(message: job_pb2.PendingSignal) -> PendingSignal:
    expires_at = seconds_of(message.expires_at) if message.HasField("expires_at") else None
    return PendingSignal(tuple(message.names), expires_at)


def _error(message: job_pb2.JobError) -> JobError:
    details = value_of(message.details) if message.HasField("details") else None
    return JobError(message.code, message.message, details)


def value_of(payload: types_pb2.Payload) -> Any:
    """The JSON of a payload; None for no value."""
    return orjson.loads(payload.data) if payload.data else None


def seconds_of(time: Timestamp) -> float:
    """A time as epoch seconds."""
    return time.seconds + time.nanos / 1e9
