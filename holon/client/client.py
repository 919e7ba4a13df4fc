"""The client: the calls of JobService, with plain values in and out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from holon.client.accounts import Accounts
from holon.client.calls import Calls, names_of, repeatable, request_of, timestamp_of
from holon.client.channel import place_of
from holon.client.creating import create_all, creation_of, payload_of
from holon.client.node import NodeClient
from holon.client.shapes import (
    ALL_FIELDS,
    CreatedJob,
    Job,
    JobPage,
    JobRequest,
    Update,
    job_of,
)
from holon.client.streams import Streams
from holon.client.watching import until_over, watch
from holon.errors import ConfigError, HolonError
from holon.rxon.v1 import job_pb2
from holon.rxon.v1.job_pb2_grpc import JobServiceStub
from holon.wire.address import shown_url

if TYPE_CHECKING:
    from holon.rxon.v1.job_pb2_grpc import JobServiceAsyncStub


class Client(Accounts):
    """A client of one node, connected while it is entered (`async with`).

    Every call raises what the node answered with, as in `holon.errors` (an unknown job is NotFound, JOB_NOT_FOUND), or
    Unreachable when no answer came. Calls are repeated a few times within a second or two while the node is away.

    `node` is the node itself, for operators: its blueprints, workers and figures, and its drain.

    Arguments:
        url: `grpcs://host:7701`, or on the loopback `grpc://127.0.0.1:7701`.
        token: the client's token; None sends none.
        ca: a file with the authorities (PEM) that the node's certificate may come from; None takes the system's.
        timeout: seconds that a call may take, its repeats included.
    Raises:
        ConfigError: the token or the timeout cannot be used.
    """

    def __init__(
        self, url: str, token: str | None = None, ca: str | Path | None = None, *, timeout: float = 30.0
    ) -> None:
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigError("the token has characters that no header can carry; use printable ASCII")
        if not 0 < timeout < inf:
            raise ConfigError(f"timeout is {timeout}; it must be a number of seconds above 0")
        self._url = url
        self._ca = ca
        self._calls = Calls(shown_url(url), (("x-client-token", token),) if token else (), timeout)
        self._resources = AsyncExitStack()

    def __repr__(self) -> str:
        return f"Client({self._calls.url})"

    if not TYPE_CHECKING:
        # Hidden from type checkers, which would otherwise let code use any misspelt name.
        def __getattr__(self, name: str) -> Any:
            """What entering makes is not there yet; raises FailedPrecondition for it."""
            if name in ("_stub", "_streams", "node"):
                self._calls.check_open()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def __aenter__(self) -> Self:
        """Make the channel; it connects with the first call.

        Raises:
            ConfigError: the address or the file of authorities cannot be used.
        """
        place = place_of(self._url, self._ca)
        channel = await self._resources.enter_async_context(place.open())
        self._calls.closed = False
        self._stub = cast("JobServiceAsyncStub", JobServiceStub(channel))
        self._streams = Streams(channel, partial(place.open, apart=True), self._resources)
        self.node = NodeClient(channel, self._calls)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._calls.closed = True
        await self._resources.aclose()

    async def create_job(
        self,
        blueprint: str,
        initial_data: Any = None,
        *,
        request_id: str | None = None,
        dispatch_timeout: float | None = None,
        result_timeout: float | None = None,
        allowed_skills: Sequence[str] | None = None,
        budget: int | None = None,
        webhook_url: str | None = None,
        priority: float | None = None,
        max_transitions: int | None = None,
    ) -> CreatedJob:
        """Create a job; it is durable when this returns. When cancelled, it may or may not have been created.

        Arguments:
            initial_data: what JSON can hold, an object; None is an empty one.
            request_id: the same again answers with the same job; by default a new one for each call. It is never empty.
            dispatch_timeout: seconds that each of its tasks may wait for a worker.
            result_timeout: seconds that each of its tasks may take in all.
            allowed_skills: all that it may use, here and in holons below; None: whatever there is.
            budget: what its tasks may cost together, in millionths of the cost unit; None: whatever they do.
            webhook_url: the address that is told of its events and its end; None: nobody is.
            priority: of its tasks that do not say one, higher goes first; None: 0.
            max_transitions: how many changes of state it may make, at most as many as the node lets it make; None:
                as many.
        """
        times = dispatch_timeout, result_timeout
        limits = allowed_skills, budget
        asked = JobRequest(blueprint, initial_data, request_id, *times, *limits, webhook_url, priority, max_transitions)
        answer = await self._calls.call(self._stub.CreateJob, creation_of(asked))
        return CreatedJob(answer.job_id, answer.existing)

    async def create_jobs(self, jobs: Sequence[JobRequest]) -> list[CreatedJob | HolonError]:
        """Create many jobs, each by itself: one that is refused leaves the others alone.

        They go in as few calls as they fit into; when one of those fails, this raises, and a repeat with the same
        request ids makes nothing twice. A job that is too large for a call is refused alone.

        Returns:
            for each, in their order, the job, which is durable, or why it was refused.
        """
        return await create_all(self._calls, self._stub, jobs)

    async def get_job(self, job_id: str, *, data: bool = False) -> Job:
        """Read a job as it is now.

        Arguments:
            data: whether its `initial_data` and `state_history` are read too, which may have megabytes.
        """
        request = request_of(job_pb2.GetJobRequest, job_id=job_id, fields=ALL_FIELDS if data else ())
        return job_of((await self._calls.call(self._stub.GetJob, request)).job)

    async def list_page(
        self,
        *,
        statuses: Sequence[str] = (),
        blueprint: str = "",
        created_after: float | None = None,
        created_before: float | None = None,
        owner: str = "",
        parent_job_id: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> JobPage:
        """Read one page of jobs, without their results.

        Arguments:
            statuses: only these; empty means all.
            blueprint: only of this one; empty means all.
            created_after: only those created at this time or later, in epoch seconds; None means all.
            created_before: only those created before this time; None means all.
            owner: whose they are, for administrators: a client's name, or `@scheduler` for those of schedules; empty
                means the caller's own.
            parent_job_id: only those that are parts of this job; empty means all.
            page_size: at most 1,000; 0 means 100.
            page_token: of the page before, with the same filters.
        """
        request = request_of(
            job_pb2.ListJobsRequest,
            statuses=names_of("statuses", statuses),
            blueprint_name=blueprint,
            created_after=timestamp_of("created_after", created_after),
            created_before=timestamp_of("created_before", created_before),
            owner=owner,
            parent_job_id=parent_job_id,
            page_size=page_size,
            page_token=page_token,
        )
        answer = await self._calls.call(self._stub.ListJobs, request)
        return JobPage(tuple(job_of(job) for job in answer.jobs), answer.next_page_token)

    async def list_jobs(
        self,
        *,
        statuses: Sequence[str] = (),
        blueprint: str = "",
        created_after: float | None = None,
        created_before: float | None = None,
        owner: str = "",
        parent_job_id: str = "",
        page_size: int = 0,
    ) -> AsyncIterator[Job]:
        """Go through all jobs, newest first, page by page; as for `list_page`."""
        token = ""
        while True:
            page = await self.list_page(
                statuses=statuses,
                blueprint=blueprint,
                created_after=created_after,
                created_before=created_before,
                owner=owner,
                parent_job_id=parent_job_id,
                page_size=page_size,
                page_token=token,
            )
            for job in page.jobs:
                yield job
            token = page.next_page_token
            if not token:
                return

    async def job_ids(self, prefix: str) -> tuple[Sequence[str], bool]:
        """Find jobs by the beginning of their ids.

        Arguments:
            prefix: at least the first 10 characters of an id.
        Returns:
            the whole ids in order, at most 10, and whether there are more.
        """
        request = request_of(job_pb2.ListJobIdsRequest, id_prefix=prefix)
        answer = await self._calls.call(self._stub.ListJobIds, request)
        return tuple(answer.job_ids), answer.truncated

    async def cancel_job(self, job_id: str, *, reason: str = "", request_id: str | None = None) -> Job:
        """Ask a job to end; answers with the job as it is now.

        What it has running is told to stop. A clean-up of its blueprint's begins at once; a second cancel ends that.

        Arguments:
            reason: why, for people and the job's history; empty: nothing is said.
            request_id: makes the call repeatable: the same id is the same cancel. Each call has a new one by default.
        """
        wish = repeatable(request_id)
        request = request_of(job_pb2.CancelJobRequest, job_id=job_id, reason=reason, request_id=wish)
        answer = await self._calls.call(self._stub.CancelJob, request)
        return job_of(answer.job)

    async def resolve_approval(
        self,
        job_id: str,
        decision: str,
        *,
        data: Any = None,
        comment: str = "",
        approval_id: str = "",
        approval_token: str = "",
        request_id: str | None = None,
    ) -> Job:
        """Decide what a job asks, as its `approval` says: once. Answers with the job as it is then.

        Arguments:
            data: an object that is merged into the job's state; None: nothing is.
            comment: why, for the job's history.
            approval_id: the question that is answered, which may be one of a job in a holon below; empty: the one that
                is open.
            approval_token: the right to decide it, of who is not the owner, and hears no more than the job's status.
            request_id: makes the call repeatable: the same id is the same decision. Each call has a new one by default.
        """
        request = request_of(
            job_pb2.ResolveApprovalRequest,
            job_id=job_id,
            approval_id=approval_id,
            decision=decision,
            data=None if data is None else payload_of(data, "data"),
            approval_token=approval_token,
            comment=comment,
            request_id=repeatable(request_id),
        )
        return job_of((await self._calls.call(self._stub.ResolveApproval, request)).job)

    async def send_signal(
        self, job_id: str, name: str, data: Any = None, *, to_job_id: str = "", request_id: str | None = None
    ) -> Job:
        """Tell a job what has happened outside. Answers with the job as it is then.

        One that waits for a signal of this name goes on by it; any other keeps it until it waits for one.

        Arguments:
            name: what has happened.
            data: an object of at most 64 KiB, that is merged into the job's state; None: nothing is.
            to_job_id: the job below that is to have it, as the event `worker_event:signal_awaited` told it; empty: the
                job itself.
            request_id: makes the call repeatable: the same id is the same signal. Each call has a new one by default.
        """
        request = request_of(
            job_pb2.SendSignalRequest,
            job_id=job_id,
            name=name,
            data=None if data is None else payload_of(data, "data"),
            request_id=repeatable(request_id),
            to_job_id=to_job_id,
        )
        return job_of((await self._calls.call(self._stub.SendSignal, request)).job)

    def watch(
        self, job_id: str, *, after: int | None = None, patience: float = 300.0, logs: bool = False
    ) -> AsyncGenerator[Update, None]:
        """Follow a job to its end: as it is, what happens to it and how far it is, and at last as it ended.

        It goes on by itself after a lost connection or a restart of the node: no line of the history is left out or
        told twice. Who reads slowly is told only of the newest progress. Close it (`contextlib.aclosing`) when leaving
        early.

        Arguments:
            after: the sequence to go on after; 0 is the beginning, None from now on.
            patience: seconds that the node may be away, once it has answered this client.
            logs: whether it is told what the job's tasks write in their logs from now on; best effort, and never
                repeated.
        Raises:
            Unreachable: the node was away for too long, or has never answered.
            HolonError: what it refused the watch with, such as NotFound.
        """
        return watch(self._streams, self._calls, job_id, after, patience, logs=logs)

    async def wait_for(
        self, job_id: str, *, timeout: float | None = None, seen: Callable[[Job], None] = lambda _: None
    ) -> Job:
        """Wait until a job is over, and return it as it ended; as for `watch`.

        Arguments:
            timeout: seconds to wait at most; None waits for ever.
            seen: called with the job as it is, each time that this is known anew.
        Raises:
            ValueError: the timeout is negative, or no number.
            TimeoutError: it is not over yet; it goes on.
        """
        return await until_over(self.watch(job_id), job_id, self._calls.url, timeout, seen)
