"""Telemetry: what happens to jobs and tasks in the engine, each thing told once: counted, traced and logged.

A job makes a few lines at DEBUG, which at thousands of jobs a second only somebody who asks for them wants; one that
fails makes one at WARNING.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from holon.domain.job import Job
from holon.domain.task import CANCELLED, FAILURE, SUCCESS, job_of
from holon.ports import LeaseRef, Offer, Result, Superseded
from holon.telemetry.metrics import FAILED, EngineMetrics
from holon.telemetry.seldom import Seldom
from holon.telemetry.tracing import Tracing

log = logging.getLogger("holon.engine")

# Statuses of a blueprint's own are counted together.
_KNOWN = {SUCCESS: SUCCESS, FAILURE: FAILURE, CANCELLED: CANCELLED}


class Telemetry:
    """What the engine tells of itself while it runs.

    Arguments:
        metrics: where it is counted.
        tracing: where it is traced.
    """

    def __init__(self, metrics: EngineMetrics | None = None, tracing: Tracing | None = None) -> None:
        self.metrics = metrics or EngineMetrics()
        self.tracing = tracing or Tracing()
        # Who else is told of a job that is over, or may be.
        self.ended_job: Callable[[Job], None] | None = None
        self._refused = Seldom(log)

    def created(self, job: Job) -> None:
        """A job was created."""
        self.metrics.created.add(job.blueprint)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("job %s of %s was created", job.id, job.blueprint, extra={"job_id": job.id})

    def written(self, job: Job, now: int) -> None:
        """A step was written; this is its job after it, and the time in epoch milliseconds."""
        self.metrics.steps.add(job.blueprint)
        if not job.status.terminal:
            return
        self.metrics.over(job, now)
        if self.ended_job is not None:
            self.ended_job(job)
        error = job.error
        if error is not None and job.status in FAILED:
            why, facts = f"{error.code}: {error.message}", {"job_id": job.id}
            log.warning("job %s of %s is %s: %s", job.id, job.blueprint, job.status.value, why, extra=facts)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("job %s of %s is %s", job.id, job.blueprint, job.status.value, extra={"job_id": job.id})

    def void(self, job: Job) -> None:
        """A step was not written: its job went to another run, and may be over."""
        self.metrics.void.add()
        if self.ended_job is not None:
            self.ended_job(job)
        why, facts = "this node lost its claim on the job to another run; this run has no effect", {"job_id": job.id}
        log.warning("job %s: %s", job.id, why, extra=facts)

    def offered(self, offers: Sequence[Offer]) -> Sequence[Offer]:
        """These go to their workers now: as they are to be sent."""
        self.metrics.offers.add(by=len(offers))
        if log.isEnabledFor(logging.DEBUG):
            for one in offers:
                facts = {
                    "job_id": one.job_id,
                    "task_id": one.task_id,
                    "worker_id": one.worker_id,
                    "lease_id": one.lease_id,
                }
                log.debug(
                    "task %s is offered to worker %s, attempt %d", one.task_id, one.worker_id, one.attempt, extra=facts
                )
        return self.tracing.offered(offers)

    def offered_loaded(self, skills: int, hints: int) -> None:
        """Of what goes to a worker it has so much loaded: by the skill, and else by what the task hints at."""
        for kind, number in (("skill", skills), ("hint", hints)):
            if number:
                self.metrics.hot.add(kind, by=number)

    def ended(self, results: Sequence[tuple[Result, Superseded | None]], worker_id: str) -> None:
        """Results of a worker were taken, or not: why."""
        told = log.isEnabledFor(logging.DEBUG)
        counted: Counter[str] = Counter()
        for result, superseded in results:
            outcome = result.outcome
            if superseded is not None:
                self.metrics.ignored.add(superseded.value)
                counted["superseded"] += 1
                error = superseded.value
            else:
                retried = result.retry_after is not None
                counted["retried" if retried else _KNOWN.get(outcome.status, "custom")] += 1
                error = outcome.error.code if outcome.error is not None else ""
            self.tracing.ended(result.lease_id, outcome.status, error)
            if told:
                self._tell_end(result, error, worker_id)
        for verdict, count in counted.items():
            self.metrics.results.add(verdict, by=count)

    def _tell_end(self, result: Result, error: str, worker_id: str) -> None:
        facts = {
            "job_id": job_of(result.task_id),
            "task_id": result.task_id,
            "worker_id": worker_id,
            "lease_id": result.lease_id,
        }
        how = f"{result.outcome.status} ({error})" if error else result.outcome.status
        log.debug("task %s of worker %s ended: %s", result.task_id, worker_id, how, extra=facts)

    def handed_back(self, lease: LeaseRef, skill: str, reason: str, why: str) -> None:
        """An offer or a task came back without a result.

        Arguments:
            reason: the code of the reason.
            why: what its worker says, where that is for somebody to look at; empty: it is a matter of course.
        """
        self.metrics.handed_back(reason)
        facts = {"task_id": lease.task_id, "worker_id": lease.worker_id, "lease_id": lease.lease_id}
        if why:
            told = lease.task_id, skill, lease.worker_id
            self._refused.warn("task %s of skill %r was returned by worker %s", *told, why=why, **facts)
        else:
            log.debug("task %s was returned by worker %s", lease.task_id, lease.worker_id, extra=facts)
