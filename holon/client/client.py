"""The client: the calls of JobService, with plain values in and out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc.aio
import orjson
from google.protobuf.duration_pb2 import Duration

from holon.client.channel import open_channel
from holon.client.failures import error_of
from holon.client.shapes import CreatedJob, HistoryEvent, HistoryPage, Job, JobPage, event_of, job_of
from holon.errors import ConfigError, InvalidArgument
from holon.rxon.v1 import job_pb2, types_pb2
from holon.rxon.v1.job_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    from holon.rxon.v1.job_pb2_grpc import JobServiceAsyncStub

A = TypeVar("A")

_FIRST_LOOK = 0.05
_LAST_LOOK = 2.0


class Client:
    """A client of one node, connected while it is entered (`async with`).

    Every call raises what the node answered with, as in `holon.errors` (an unknown job is NotFound, JOB_NOT_FOUND), or
    Unreachable when no answer came. Calls are repeated a few times within a second or two while the node is away.

    Arguments:
        url: `grpcs://host:7701`, or on the loopback `grpc://127.0.0.1:7701`.
        token: the client's token; None sends none.
        ca: a file with the authorities (PEM) that the node's certificate may come from; None takes the system's.
        timeout: seconds that a call may take, its repeats included.
    """

    def __init__(
        self, url: str, token: str | None = None, ca: str | Path | None = None, *, timeout: float = 30.0
    ) -> None:
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigError("the token has characters that no header can carry; use printable ASCII")
        self._url = url
        self._ca = ca
        self._timeout = timeout
        self._metadata = (("x-client-token", token),) if token else ()
        self._resources = AsyncExitStack()

    def __repr__(self) -> str:
        return f"Client({self._url})"

    async def __aenter__(self) -> Self:
        """Make the channel; it connects with the first call.

        Raises:
            ConfigError: the address or the file of authorities cannot be used.
        """
        channel = await self._resources.enter_async_context(open_channel(self._url, self._ca))
        self._stub = cast("JobServiceAsyncStub", JobServiceStub(channel))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def create_job(
        self,
        blueprint: str,
        initial_data: Any = None,
        *,
        request_id: str | None = None,
        dispatch_timeout: float | None = None,
        result_timeout: float | None = None,
    ) -> CreatedJob:
        """Create a job; it is durable when this returns. When cancelled, it may or may not have been created.

        Arguments:
            initial_data: what JSON can hold, an object; None is an empty one.
            request_id: the same again answers with the same job; by default a new one for each call.
            dispatch_timeout: seconds that each of its tasks may wait for a worker.
            result_timeout: seconds that each of its tasks may take in all.
        """
        try:
            data = orjson.dumps({} if initial_data is None else initial_data)
        except TypeError as error:
            raise InvalidArgument(f"initial_data: {error}", code="NOT_JSON") from error
        request = job_pb2.CreateJobRequest(
            request_id=request_id or uuid.uuid4().hex,
            blueprint_name=blueprint,
            initial_data=types_pb2.Payload(data=data),
            dispatch_timeout=_duration(dispatch_timeout),
            result_timeout=_duration(result_timeout),
        )
        answer = await self._call(self._stub.CreateJob, request)
        return CreatedJob(answer.job_id, answer.existing)

    async def get_job(self, job_id: str) -> Job:
        """Read a job as it is now."""
        answer = await self._call(self._stub.GetJob, job_pb2.GetJobRequest(job_id=job_id))
        return job_of(answer.job)

    async def list_page(
        self, *, statuses: Sequence[str] = (), blueprint: str = "", page_size: int = 0, page_token: str = ""
    ) -> JobPage:
        """Read one page of jobs, without their results.

        Arguments:
            statuses: only these; empty means all.
            blueprint: only of this one; empty means all.
            page_size: at most 1,000; 0 means 100.
            page_token: of the page before, with the same filters.
        """
        request = job_pb2.ListJobsRequest(
            statuses=statuses, blueprint_name=blueprint, page_size=page_size, page_token=page_token
        )
        answer = await self._call(self._stub.ListJobs, request)
        return JobPage(tuple(job_of(job) for job in answer.jobs), answer.next_page_token)

    async def list_jobs(
        self, *, statuses: Sequence[str] = (), blueprint: str = "", page_size: int = 0
    ) -> AsyncIterator[Job]:
        """Go through all jobs, newest first, page by page; as for `list_page`."""
        token = ""
        while True:
            page = await self.list_page(statuses=statuses, blueprint=blueprint, page_size=page_size, page_token=token)
            for job in page.jobs:
                yield job
            token = page.next_page_token
            if not token:
                return

    async def cancel_job(self, job_id: str) -> Job:
        """Ask a job to end; it ends when what it has running has stopped. Answers with the job as it is now."""
        answer = await self._call(self._stub.CancelJob, job_pb2.CancelJobRequest(job_id=job_id))
        return job_of(answer.job)

    async def history_page(self, job_id: str, *, page_size: int = 0, page_token: str = "") -> HistoryPage:
        """Read one page of what happened to a job; as for `list_page`."""
        request = job_pb2.GetJobHistoryRequest(job_id=job_id, page_size=page_size, page_token=page_token)
        answer = await self._call(self._stub.GetJobHistory, request)
        return HistoryPage(tuple(event_of(event) for event in answer.events), answer.next_page_token)

    async def history(self, job_id: str, *, page_size: int = 0) -> AsyncIterator[HistoryEvent]:
        """Go through all that happened to a job, oldest first, page by page."""
        token = ""
        while True:
            page = await self.history_page(job_id, page_size=page_size, page_token=token)
            for event in page.events:
                yield event
            token = page.next_page_token
            if not token:
                return

    async def wait_for(
        self, job_id: str, *, timeout: float | None = None, seen: Callable[[Job], None] = lambda _: None
    ) -> Job:
        """Wait until a job is over, and return it as it ended; by reading it, less and less often.

        Arguments:
            timeout: seconds to wait at most; None waits for ever.
            seen: called with the job each time that it was read.
        Raises:
            TimeoutError: it is not over yet; it goes on.
        """
        async with asyncio.timeout(timeout):
            pause = _FIRST_LOOK
            while True:
                job = await self.get_job(job_id)
                seen(job)
                if job.terminal:
                    return job
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LAST_LOOK)

    async def _call(self, method: Callable[..., Awaitable[A]], request: object) -> A:
        try:
            return await method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self._url) from error


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
