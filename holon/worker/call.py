"""The worker SDK: one task on its way through a handler, and the call itself, in a thread or on the handlers' loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson

from holon.errors import InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.worker.cancelled import Cancelled
from holon.worker.events import SendEvent
from holon.worker.files import BlockingFiles, Files, TaskFolder
from holon.worker.leases import Lease
from holon.worker.log import Log
from holon.worker.outcome import (
    INVALID_INPUT_ERROR,
    TRANSIENT_ERROR,
    DataError,
    TaskError,
    cancelled,
    failure,
    failure_of,
    result_of,
)
from holon.worker.progress import Progress
from holon.worker.skill import Skill
from holon.worker.tracing import Tracing

_log = logging.getLogger("holon.worker")


class Call:
    """One offered task. The runner owns it on the stream's loop; the handler's side only calls it.

    Attributes:
        began: when it was received, on the stream's loop's clock.
        stopping: why it is being stopped; empty while it is not.
        verdict: the result that stands whatever the handler still returns; None leaves it the word.
        due: when something happens to it by time alone, on the stream's loop's clock, and what; see `Alarm`.
        outlived: whether the handler went on after its stop, and so holds a slot for nothing.
        task: an async handler's task, once it runs.
        told: whether it was told what an async handler came to.
        folder: that of its files, and what is under way of them; None where the handler asks for none.
    """

    def __init__(self, lease: Lease, offer: worker_pb2.TaskOffer, skill: Skill, began: float, tracing: Tracing) -> None:
        self.lease = lease
        self.offer = offer
        self.skill = skill
        self.began = began
        self._tracing = tracing
        self.stopping = ""
        self.verdict: worker_pb2.TaskResult | None = None
        self.outlived = False
        self.due: tuple[float, Callable[[Call], None]] | None = None
        self.task: asyncio.Task[None] | None = None
        self.told = False
        self.progress: Progress | None = None
        self.log: Log | None = None
        self.send_event: SendEvent | None = None
        self.folder: TaskFolder | None = None
        self.files: Files | BlockingFiles | None = None
        self.cancelled = Cancelled() if "cancelled" in skill.injected else None

    def __repr__(self) -> str:
        return f"Call({self.skill.name}, task_id={self.lease.task_id}, lease_id={self.lease.lease_id})"

    def run(self) -> worker_pb2.TaskResult:
        """Call a sync handler. Blocks until it returns; never raises."""
        with self._tracing.task(self.offer) as span:
            try:
                result = self._result(self.skill.handler(**self._arguments()))
            except BaseException as error:  # noqa: BLE001  # user code
                result = self._failed(error)
            span.ended(result)
            return result

    async def run_async(
        self, returned: Callable[[Call, worker_pb2.TaskResult], None], closing: Callable[[], bool]
    ) -> None:
        """Await an async handler; a cancel of this is one of the handler.

        Arguments:
            returned: told what it came to, at once.
            closing: whether all that runs on its loop is being cancelled: else a cancel that is not ours is its own, or
                of what it has begun.
        Raises:
            CancelledError: its loop is being closed.
            KeyboardInterrupt, GeneratorExit: the loop is being ended with it.
        """
        with self._tracing.task(self.offer) as span:
            try:
                result = self._result(await self.skill.handler(**self._arguments()))
            except asyncio.CancelledError as error:
                if closing() and not self.stopping:
                    raise
                result = self._failed(error)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001  # user code
                result = self._failed(error)
            span.ended(result)
            self.told = True
            returned(self, result)

    def _arguments(self) -> dict[str, Any]:
        data = self.offer.params.data
        try:
            params = orjson.loads(data) if data else {}
        except ValueError as error:
            raise InvalidArgument(f"the params are not valid JSON: {error}", code="INPUT_INVALID") from error
        return self.skill.bind(params, {name: _INJECTED[name](self) for name in self.skill.injected - {"params"}})

    def _result(self, value: Any) -> worker_pb2.TaskResult:
        return result_of(value, self.skill.statuses)

    def _failed(self, error: BaseException) -> worker_pb2.TaskResult:
        if self.stopping:
            return cancelled()
        facts = {"task_id": self.lease.task_id, "lease_id": self.lease.lease_id, "job_id": self.offer.job_id}
        if isinstance(error, InvalidArgument) and error.code == "INPUT_INVALID":
            _log.warning("task %s: %s", self.lease.task_id, error, extra=facts)
            return failure(INVALID_INPUT_ERROR, error.message)
        try:
            result = failure_of(error)
        except Exception as other:  # noqa: BLE001  # user code: an error of its own that cannot say what it is
            error, result = other, _failure_of_its_own(other)
        if isinstance(error, TaskError):
            said = result.error
            _log.warning("task %s failed: %s: %s", self.lease.task_id, said.code, said.message, extra=facts)
        elif isinstance(error, DataError):
            _log.error("task %s: the handler %s: %s", self.lease.task_id, self.skill, error, extra=facts)
        else:
            _log.error("task %s: the handler %s raised", self.lease.task_id, self.skill, exc_info=error, extra=facts)
        return result


def _failure_of_its_own(error: Exception) -> worker_pb2.TaskResult:
    """The result where an error cannot say what it is, for the one that it raised; nor may that."""
    try:
        return failure_of(error)
    except Exception:  # noqa: BLE001  # user code
        return failure(TRANSIENT_ERROR, type(error).__name__)


def _deadline(call: Call) -> float | None:
    deadline = call.offer.deadline
    return deadline.seconds + deadline.nanos / 1e9 if call.offer.HasField("deadline") else None


_INJECTED: dict[str, Callable[[Call], Any]] = {
    "task_id": lambda call: call.lease.task_id,
    "job_id": lambda call: call.offer.job_id,
    "attempt": lambda call: call.offer.attempt,
    "deadline": _deadline,
    "progress": lambda call: call.progress,
    "log": lambda call: call.log,
    "send_event": lambda call: call.send_event,
    "cancelled": lambda call: call.cancelled,
    "files": lambda call: call.files,
}
