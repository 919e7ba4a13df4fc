"""Making: what callers ask for as jobs that may be created, checked before anything is written."""

from __future__ import annotations

from holon.domain.blueprint import Blueprint
from holon.domain.client import Client
from holon.domain.costs import costing
from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.domain.webhook import Receivers, webhook_of
from holon.engine.inputs import Inputs
from holon.engine.quotas import monthly
from holon.engine.requests import Creating, digest_of, priority_of, request_id_of, timeout_ms, transitions_of
from holon.ports import NewJob, Storage
from holon.telemetry.events import Telemetry
from holon.telemetry.tracing import Span


class Making:
    """Makes jobs of what is asked for.

    Arguments:
        receivers: who may be told of a job's end.
        max_transitions: how many changes of state a job may make at most.

    Attributes:
        inputs: checks what jobs are given.
    """

    def __init__(
        self, store: Storage, inputs: Inputs, telemetry: Telemetry, receivers: Receivers, max_transitions: int
    ) -> None:
        self.inputs = inputs
        self._store = store
        self._telemetry = telemetry
        self._receivers = receivers
        self._max_transitions = max_transitions

    def __repr__(self) -> str:
        return f"Making({self.inputs!r})"

    def new_id(self, client: Client, asked: Creating) -> str:
        """The id of the job that is to be made by this; a request that was made before is answered with another one.

        Raises:
            InvalidArgument: the request id is none.
        """
        return self._store.new_job_id(client.name, request_id_of(asked.request_id))

    def new(self, client: Client, asked: Creating, blueprint: Blueprint, contract: str) -> tuple[NewJob, Span]:
        """A job that may be created; the span is to be ended once it is, or is not."""
        data, text = self.inputs.read(asked, blueprint, contract)
        now = self._store.now()
        request_id = request_id_of(asked.request_id)
        dispatch_timeout = timeout_ms("dispatch_timeout", asked.dispatch_timeout)
        result_timeout = timeout_ms("result_timeout", asked.result_timeout)
        budget = costing("budget", asked.budget)
        default_priority = priority_of(asked.default_priority)
        max_transitions = transitions_of(asked.max_transitions, self._max_transitions)
        webhook = webhook_of(asked.webhook_url, self._receivers)
        job_id = asked.job_id or self.new_id(client, asked)
        # What is wrong is found before it begins.
        span = self._telemetry.tracing.job(job_id, blueprint.name, asked.trace)
        job = Job(
            id=job_id,
            blueprint=blueprint.name,
            owner=client.name,
            initial_data=data,
            current_state=blueprint.start.name,
            dispatch_timeout=dispatch_timeout,
            result_timeout=result_timeout,
            trace=span.trace,
            created_at=now,
            plan=client.plan,
            client_params=client.params,
            priority=asked.priority,
            allowed_skills=asked.allowed_skills,
            budget=budget,
            deadline=asked.deadline,
            parent_job_id=asked.parent_job_id,
            depth=asked.depth,
            wants=asked.wants,
            webhook=webhook,
            default_priority=default_priority,
            max_transitions=max_transitions,
        )
        details = {"blueprint": job.blueprint}
        if asked.source:
            details["source"] = asked.source
        if job.parent_job_id:
            details["parent_job_id"] = job.parent_job_id
        created = HistoryEvent("job_created", now, job.current_state, details=details)
        most = client.monthly_attempts
        limited = None if most is None else monthly(client.name, most, now)
        digest = digest_of(asked, text, job.blueprint, job.dispatch_timeout, job.result_timeout, job.budget)
        return NewJob(job, (created,), request_id, digest, None, limited, asked.note), span
