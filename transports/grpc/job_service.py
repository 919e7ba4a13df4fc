"""The client door: JobService, by the application service of jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import grpc

from holon.domain.client import ADMIN
from holon.domain.tree import Asked
from holon.engine.batches import create_all
from holon.engine.jobs import Jobs
from holon.engine.rates import Call, RateLimits
from holon.engine.requests import Accepted, Creating, Listing, request_id_of, statuses_of
from holon.engine.trees import Trees
from holon.engine.watching import Watching
from holon.errors import HolonError, Unavailable
from holon.rxon.v1 import job_pb2
from holon.security.approvals import HOLDER, approval_token, made_of, question_of
from holon.security.clients import Clients, check_role
from holon.telemetry.audit import audited
from holon.transports.grpc.calls import invalid, refuse, streamed, unary
from holon.transports.grpc.clients import acting, client, digest
from holon.transports.grpc.creation import creating_of
from holon.transports.grpc.deciding import deciding_of, sending_of
from holon.transports.grpc.updates import Updates
from holon.turns import one_by_one
from holon.wire.grpc_status import error_of
from holon.wire.jobs import LISTED_FIELDS, SHOWN_FIELDS, event_message, fields_of, fields_of_others, job_message
from holon.wire.trees import node_message
from holon.wire.values import asked_time

SERVICE = "holon.rxon.v1.JobService"
MAX_BATCH = 256
# As long as the token of a page can be, which goes on from there.
MAX_SEQUENCE = 10**18 - 1
# What is told of a job to who may only decide one question of it.
_OF_HOLDER = ("id", "status", "terminal")


class JobService:
    """Translates: requests into the engine's words, and its answers and records into protobuf.

    Arguments:
        clients: those whose tokens approval tokens are made of; None: there are none.
        rates: counts the jobs of a batch; None: they are not counted.

    Attributes:
        draining: whether no new job is taken.
    """

    def __init__(
        self,
        jobs: Jobs,
        watching: Watching,
        trees: Trees,
        clients: Clients | None = None,
        rates: RateLimits | None = None,
    ) -> None:
        self.draining = False
        self._rates = rates
        self._jobs = jobs
        self._watching = watching
        self._trees = trees
        self._clients = clients
        self._updates = Updates()

    def handler(self, max_bytes: int, *, creates: bool = True) -> grpc.GenericRpcHandler:
        """The service's calls by name; no answer is larger than `max_bytes`. Without `creates` none makes a job."""
        calls = {
            "GetJob": unary("GetJob", job_pb2.GetJobRequest, self.get, max_bytes),
            "ListJobs": unary("ListJobs", job_pb2.ListJobsRequest, self.list, max_bytes),
            "ListJobIds": unary("ListJobIds", job_pb2.ListJobIdsRequest, self.list_ids, max_bytes),
            "CancelJob": unary("CancelJob", job_pb2.CancelJobRequest, self.cancel, max_bytes),
            "ResolveApproval": unary("ResolveApproval", job_pb2.ResolveApprovalRequest, self.resolve, max_bytes),
            "SendSignal": unary("SendSignal", job_pb2.SendSignalRequest, self.signal, max_bytes),
            "GetJobHistory": unary("GetJobHistory", job_pb2.GetJobHistoryRequest, self.history, max_bytes),
            "GetJobTree": unary("GetJobTree", job_pb2.GetJobTreeRequest, self.tree, max_bytes),
            "WatchJob": streamed("WatchJob", job_pb2.WatchJobRequest, self.watch, max_bytes),
        }
        if creates:
            calls["CreateJob"] = unary("CreateJob", job_pb2.CreateJobRequest, self.create, max_bytes)
            calls["BatchCreateJobs"] = unary(
                "BatchCreateJobs", job_pb2.BatchCreateJobsRequest, self.create_batch, max_bytes
            )
        return grpc.method_handlers_generic_handler(SERVICE, calls)

    async def create(self, request: job_pb2.CreateJobRequest) -> job_pb2.CreateJobResponse:
        """Create a job."""
        asked = creating_of(request)
        self._refuse_while_draining()
        return _created(await self._jobs.create(client(), asked))

    async def create_batch(self, request: job_pb2.BatchCreateJobsRequest) -> job_pb2.BatchCreateJobsResponse:
        """Create jobs, each by itself."""
        if len(request.requests) > MAX_BATCH:
            raise invalid("requests", f"has {len(request.requests)} requests, over the limit of {MAX_BATCH}")
        self._refuse_while_draining()
        if self._rates is not None:
            await self._rates.admit_batch(Call.GRPC, client().name, len(request.requests))
        asked = await one_by_one(_creating_or_not, request.requests)
        made = iter(await create_all(self._jobs, client(), [one for one in asked if isinstance(one, Creating)]))
        outcomes = [next(made) if isinstance(one, Creating) else one for one in asked]
        return job_pb2.BatchCreateJobsResponse(results=[_result(outcome) for outcome in outcomes])

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Unavailable(
                "this node is shutting down and accepts no new jobs; use another node, or retry later",
                code="DRAINING",
                retry_after=1.0,
            )

    async def get(self, request: job_pb2.GetJobRequest) -> job_pb2.GetJobResponse:
        """Read a job."""
        names = fields_of(request.fields, SHOWN_FIELDS)
        record = await self._jobs.get(client(), request.job_id)
        job = job_message(record, await self._jobs.progress_message_of_one(record), names)
        if job.HasField("approval"):
            job.approval.approval_token = approval_token(digest(), job.approval.approval_id)
        return job_pb2.GetJobResponse(job=job)

    async def list(self, request: job_pb2.ListJobsRequest) -> job_pb2.ListJobsResponse:
        """Read a page of jobs."""
        owner = request.owner or client().name
        if client().sees(owner):
            names = fields_of(request.fields, LISTED_FIELDS)
        else:
            check_role(client(), ADMIN, "to list the jobs of another client")
            names = fields_of_others(request.fields)
        listing = Listing(
            statuses_of(request.statuses, "statuses"),
            request.blueprint_name or None,
            request.page_size,
            request.page_token,
            asked_time(request, "created_after"),
            asked_time(request, "created_before"),
            request.terminal if request.HasField("terminal") else None,
            request.parent_job_id,
            names,
        )
        records, more = await self._jobs.list(owner, listing)
        jobs = [job_message(record, self._jobs.progress_message(record), names) for record in records]
        return job_pb2.ListJobsResponse(jobs=jobs, next_page_token=more)

    async def list_ids(self, request: job_pb2.ListJobIdsRequest) -> job_pb2.ListJobIdsResponse:
        """Read the ids that begin with a prefix."""
        ids, truncated = await self._jobs.ids(client(), request.id_prefix)
        return job_pb2.ListJobIdsResponse(job_ids=ids, truncated=truncated)

    async def cancel(self, request: job_pb2.CancelJobRequest) -> job_pb2.CancelJobResponse:
        """Ask a job to stop."""
        by = acting()
        with audited("job_cancelled", by, lambda: request.job_id):
            request_id, reason = request_id_of(request.request_id), request.reason
            record = await self._jobs.cancel(client(), request.job_id, by=by.who, request_id=request_id, reason=reason)
        return job_pb2.CancelJobResponse(job=job_message(record, self._jobs.progress_message(record)))

    async def resolve(self, request: job_pb2.ResolveApprovalRequest) -> job_pb2.ResolveApprovalResponse:
        """Bring a decision to a job that waits for one."""
        by = acting()
        with audited("approval_resolved", by, lambda: request.job_id, decision=request.decision):
            given, approvals = deciding_of(request), self._jobs.approvals
            if token := request.approval_token:
                record = await approvals.resolve_by_right(
                    request.job_id, given, question_of(token), partial(self._allows, token), by=HOLDER
                )
                return job_pb2.ResolveApprovalResponse(job=job_message(record, "", _OF_HOLDER))
            record = await approvals.resolve(client(), request.job_id, given, by=by.who)
        return job_pb2.ResolveApprovalResponse(job=job_message(record, self._jobs.progress_message(record)))

    async def signal(self, request: job_pb2.SendSignalRequest) -> job_pb2.SendSignalResponse:
        """Bring a job word of what has happened outside."""
        by = acting()
        with audited("signal_sent", by, lambda: request.job_id, signal=request.name):
            record = await self._jobs.signals.send(client(), request.job_id, sending_of(request), by=by.who)
        return job_pb2.SendSignalResponse(job=job_message(record, self._jobs.progress_message(record)))

    def _allows(self, token: str, owner: str) -> bool:
        """Whether an approval token was made of a token of this client's."""
        return self._clients is not None and made_of(token, self._clients.digests_of(owner))

    async def history(self, request: job_pb2.GetJobHistoryRequest) -> job_pb2.GetJobHistoryResponse:
        """Read a page of a job's history."""
        if request.page_token and request.after_sequence:
            raise invalid("after_sequence", "is only for the first page; for later pages use page_token")
        if not 0 <= request.after_sequence <= MAX_SEQUENCE:
            raise invalid("after_sequence", f"is {request.after_sequence}; it must be 0 to {MAX_SEQUENCE}")
        events, more = await self._jobs.history(
            client(), request.job_id, request.page_size, request.page_token, request.after_sequence
        )
        return job_pb2.GetJobHistoryResponse(
            events=[event_message(request.job_id, number, event) for number, event in events], next_page_token=more
        )

    async def tree(self, request: job_pb2.GetJobTreeRequest) -> job_pb2.GetJobTreeResponse:
        """Read a page of the jobs and tasks below a job, across holons."""
        asked = Asked(
            request.max_depth if request.HasField("max_depth") else None,
            request.page_size,
            request.page_token,
            request.digests_wanted,
        )
        page = await self._trees.page(client(), request.job_id, asked)
        nodes = await one_by_one(node_message, page.nodes)
        return job_pb2.GetJobTreeResponse(nodes=nodes, next_page_token=page.token)

    async def watch(self, request: job_pb2.WatchJobRequest) -> AsyncGenerator[bytes, None]:
        """Follow a job to its end."""
        refuse({"streams": bool(request.streams)})
        after = request.after_sequence if request.HasField("after_sequence") else None
        async with aclosing(
            self._watching.follow(client(), request.job_id, after, logs=request.logs_wanted)
        ) as updates:
            async for update in updates:
                yield self._updates.message(request.job_id, update)


def _created(accepted: Accepted) -> job_pb2.CreateJobResponse:
    return job_pb2.CreateJobResponse(job_id=accepted.job_id, existing=accepted.existing)


def _creating_or_not(request: job_pb2.CreateJobRequest) -> Creating | HolonError:
    try:
        return creating_of(request)
    except HolonError as error:
        return error


def _result(outcome: Accepted | HolonError) -> job_pb2.BatchCreateJobsResult:
    if isinstance(outcome, Accepted):
        return job_pb2.BatchCreateJobsResult(created=_created(outcome))
    return job_pb2.BatchCreateJobsResult(error=error_of(outcome))
