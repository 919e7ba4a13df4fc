"""The worker SDK: what a handler gives back, and how it goes on the wire."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson

from holon.domain.costs import costing
from holon.domain.plain import unwritten
from holon.errors import InvalidArgument
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.worker.declared import EVENT_INVALID

SUCCESS = "success"
FAILURE = "failure"
CANCELLED = "cancelled"

TRANSIENT_ERROR = "TRANSIENT_ERROR"
PERMANENT_ERROR = "PERMANENT_ERROR"
INVALID_INPUT_ERROR = "INVALID_INPUT_ERROR"
TIMEOUT_ERROR = "TIMEOUT_ERROR"
LIMIT_EXCEEDED = "LIMIT_EXCEEDED"

_LONGEST_MESSAGE = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a handler returns to end with another status than success, or with none of the usual shapes of data.

    Attributes:
        status: `success`, `failure`, `cancelled`, or one that `@worker.skill(statuses=...)` declares.
        data: a JSON object to merge into the job's state; a dict, a dataclass or a pydantic model.
        cost: what it cost, in millionths of the cost unit; None is what the skill declares as its price.
    """

    status: str = SUCCESS
    data: Any = None
    cost: int | None = None


class TaskError(Exception):
    """Raised by a handler to say what kind of failure it is, and so whether another try may help.

    Arguments:
        code: for example TRANSIENT_ERROR (tried again), PERMANENT_ERROR (not), INVALID_INPUT_ERROR (the job fails);
            an unknown one counts as TRANSIENT_ERROR.
        message: one sentence for people.
        details: more facts for programs, as JSON.
        cost: what the try cost, in millionths of the cost unit; None is what the skill declares as its price.
    """

    def __init__(
        self, code: str, message: str, details: Mapping[str, Any] | None = None, *, cost: int | None = None
    ) -> None:
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details = details
        self.cost = cost

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class DataError(Exception):
    """Unexpected: a handler returned what JSON cannot hold, or what no job can merge; its author must act."""


def result_of(value: Any, statuses: frozenset[str]) -> worker_pb2.TaskResult:
    """The result for what a handler returned.

    Arguments:
        value: None, a dict, a dataclass, a pydantic model, or a `Result` with one of those as data.
        statuses: the declared statuses besides success, failure and cancelled.
    Raises:
        DataError: it is something else, or has a status that was not declared.
    """
    status, data = (value.status, value.data) if isinstance(value, Result) else (SUCCESS, value)
    # As a list, for it may be what cannot be in a set.
    if status not in (SUCCESS, FAILURE, CANCELLED, *statuses):
        raise DataError(f"the status {status!r} is not declared; add it to @worker.skill(statuses=[...])")
    result = worker_pb2.TaskResult(status=status)
    if data is not None:
        result.data.data = _object(data)
    return _costing(result, value.cost if isinstance(value, Result) else None)


def failure(code: str, message: str, details: Mapping[str, Any] | None = None) -> worker_pb2.TaskResult:
    """The result of a task that failed. What cannot be written, of all three, is replaced by its text."""
    error = types_pb2.TaskError(code=text_of(code), message=text_of(message)[:_LONGEST_MESSAGE])
    if details is not None:
        try:
            error.details.data = _write(details)
        except TypeError:
            error.details.data = orjson.dumps({"text": text_of(repr(details))[:_LONGEST_MESSAGE]})
    return worker_pb2.TaskResult(status=FAILURE, error=error)


def text_of(one: object) -> str:
    """Text for the wire, of whatever a handler gave for it; what is no UTF-8, as in some names of files, is escaped."""
    return str(one).encode(errors="backslashreplace").decode()


def failure_of(error: BaseException) -> worker_pb2.TaskResult:
    """The result of a task whose handler raised."""
    if isinstance(error, TaskError):
        return _costing(failure(error.code, error.message, error.details), error.cost)
    # The next try would send the same.
    if isinstance(error, DataError) or (isinstance(error, InvalidArgument) and error.code == EVENT_INVALID):
        return failure(PERMANENT_ERROR, str(error))
    text = str(error)
    return failure(TRANSIENT_ERROR, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _costing(result: worker_pb2.TaskResult, cost: Any) -> worker_pb2.TaskResult:
    try:
        known = costing("cost", cost)
    except InvalidArgument as error:
        return failure(PERMANENT_ERROR, f"the cost that the handler reported: {error.message}")
    if known is not None:
        result.cost = known
    return result


def cancelled(cost: int | None = None) -> worker_pb2.TaskResult:
    """The result of a task that was stopped, and what that cost, if that is known."""
    return worker_pb2.TaskResult(status=CANCELLED, cost=cost)


def too_large(result: worker_pb2.TaskResult, message: str) -> worker_pb2.TaskResult:
    """The failure that is told in the place of a result that the node does not take: the work was done all the same.

    What it cost, how long it took, and what a holon tells beside it stay as they were.
    """
    failed = failure(LIMIT_EXCEEDED, message)
    if result.HasField("cost"):
        failed.cost = result.cost
    if result.HasField("duration"):
        failed.duration.CopyFrom(result.duration)
    if result.HasField("summary"):
        failed.summary.CopyFrom(result.summary)
    return failed


def _object(data: Any) -> bytes:
    if not (isinstance(data, Mapping) or _is_record(data)):
        raise DataError(f"a handler returns a dict, a Result or None, not {type(data).__name__}; wrap it in a dict")
    try:
        text = _write(data)
    except TypeError as error:
        where = unwritten(data, "data", _write) or error
        raise DataError(f"the result of the handler cannot be written as JSON: {where}") from error
    if not text.startswith(b"{"):
        raise DataError(
            f"the result of the handler is a {type(data).__name__}, which is not a JSON object; wrap it in a dict"
        )
    return text


def _is_record(data: Any) -> bool:
    return hasattr(data, "model_dump") or (dataclasses.is_dataclass(data) and not isinstance(data, type))


def _write(data: Any) -> bytes:
    return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    """What orjson does not know by itself."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON cannot hold a value of type {type(value).__name__}")
