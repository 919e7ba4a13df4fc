"""Telemetry: what the rooms of a node count while it runs. `docs/observability.md` lists it."""

from __future__ import annotations

from holon.domain.job import Job, Status
from holon.domain.task import DISPATCH_TIMEOUT, RESULT_TIMEOUT, TIMEOUT_ERROR, Outcome
from holon.telemetry.series import OTHER, Counter, Histogram

# Seconds: of calls, and of jobs.
SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 86_400.0)
BATCHES = (1, 5, 10, 50, 100, 150, 200, 250)
GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_TIMEOUTS = {DISPATCH_TIMEOUT: "dispatch", RESULT_TIMEOUT: "result", TIMEOUT_ERROR: "execution"}
FAILED = (Status.FAILED, Status.QUARANTINED)
# Why workers give tasks back, as the protocol names it; NOT_DELIVERED: the offer did not reach the worker.
REJECTIONS = (
    "BUSY",
    "CONTRACT_CHANGED",
    "CYCLE",
    "DRAINING",
    "NOT_DELIVERED",
    "PAYLOAD_UNREACHABLE",
    "STALE_OFFER",
    "UNKNOWN_SKILL",
    "UNSERVABLE",
    "UNSUITABLE",
)


class EngineMetrics:
    """What the engine counts: jobs, steps, tasks and their results."""

    def __init__(self) -> None:
        self.created = Counter("orchestrator_jobs", "Jobs that this node created.", "blueprint")
        self.failed = Counter("orchestrator_jobs_failed", "Jobs that failed or were quarantined.", "blueprint")
        self.duration = Histogram(
            "orchestrator_job_duration_seconds", "Time from a job's creation to its end.", LONG, "blueprint"
        )
        self.timeouts = Counter("orchestrator_jobs_timeouts", "Tasks that ended by a timeout.", "blueprint", "type")
        self.ignored = Counter("orchestrator_tasks_ignored", "Results that were not applied.", "reason")
        self.ended = Counter("holon_jobs_ended", "Jobs that ended.", "blueprint", "status")
        self.steps = Counter("holon_steps", "Steps of jobs that were committed.", "blueprint")
        self.void = Counter("holon_steps_void", "Steps without effect, because another node had taken over the job.")
        self.handler_failures = Counter("holon_handler_failures", "Failed runs of handlers.", "blueprint")
        self.hot = Counter(
            "orchestrator_tasks_hot_dispatched",
            "Tasks offered to workers that had the skill, or what the resource hint names, loaded.",
            "kind",
        )
        for kind in ("skill", "hint"):
            self.hot.add(kind, by=0)
        self.offers = Counter("holon_task_offers", "Tasks offered to workers.")
        self.handbacks = Counter("holon_task_handbacks", "Offers and tasks that workers returned, by reason.", "reason")
        for reason in REJECTIONS:
            self.handbacks.add(reason, by=0)
        self.results = Counter("holon_task_results", "Results of workers, by verdict.", "verdict")

    def known(self, blueprint: str) -> None:
        """Show a blueprint of which there was no job yet, so that its first one is seen as one more."""
        for figure in (self.created, self.failed, self.steps):
            figure.add(blueprint, by=0)

    def over(self, job: Job, now: int) -> None:
        """A job has ended, at this time in epoch milliseconds."""
        self.ended.add(job.blueprint, str(job.status))
        if job.error is not None and job.status in FAILED:
            self.failed.add(job.blueprint)
        if job.created_at:
            self.duration.observe((now - job.created_at) / 1000, job.blueprint)

    def handed_back(self, reason: str) -> None:
        """A worker gave an offer or a task back, for this reason; what workers say that is not known counts as one."""
        self.handbacks.add(reason if reason in REJECTIONS else OTHER)

    def outcome(self, blueprint: str, outcome: Outcome) -> None:
        """A job learns how a task of its ended, for good."""
        kind = _TIMEOUTS.get(outcome.error.code) if outcome.error is not None else None
        if kind is not None:
            self.timeouts.add(blueprint, kind)


class UplinkMetrics:
    """What is counted where a holon serves its parent."""

    def __init__(self) -> None:
        self.rejections = Counter(
            "holon_uplink_rejections",
            "Offers and tasks of the parent that this node rejected or returned, by reason.",
            "reason",
        )
        for reason in ("BUSY", "DRAINING", "STALE_OFFER", "UNKNOWN_SKILL", "UNSERVABLE", "UNSUITABLE"):
            self.rejections.add(reason, by=0)


class StoreMetrics:
    """What a store with a thread of its own counts. Each figure is added to by one thread, and read by any."""

    def __init__(self) -> None:
        self.calls = Histogram("holon_store_call_seconds", "Store calls that may write, from call to reply.", SHORT)
        self.failures = Counter("holon_store_failures", "Store calls that were refused, or whose transaction failed.")
        self.groups = Histogram("holon_store_group_calls", "Store calls that shared a transaction.", GROUPS)
        self.writes = Histogram(
            "holon_store_transaction_seconds", "Transactions, including the sync to the disk.", SHORT
        )
        self.history = Counter("holon_history_events", "History lines written.")
        self.reads = Histogram("holon_store_read_seconds", "Reads for clients.", SHORT)


class FilesMetrics:
    """What is counted where jobs have files."""

    def __init__(self) -> None:
        self.calls = Counter("holon_files_calls", "S3 calls, by result.", "call", "result")
        self.bytes = Counter("holon_files_bytes", "Bytes of files sent and fetched.", "direction")


class MoverMetrics:
    """What is counted where history leaves the store."""

    def __init__(self) -> None:
        self.moved = Counter("holon_history_moved", "History lines moved to the history database.")
        self.batches = Histogram("holon_history_batch_notices", "Steps whose history was moved together.", BATCHES)
        self.failures = Counter("holon_history_failures", "Failed attempts to move a batch of history.")


class WebhookMetrics:
    """What is counted where receivers are told of jobs' ends and events."""

    def __init__(self) -> None:
        self.told = Counter("holon_webhooks", "Webhooks for ends of jobs: delivered or given up.", "outcome")
        self.events = Counter("holon_webhook_events", "Webhooks for events of jobs: delivered or given up.", "outcome")
        self.tries = Counter("holon_webhook_tries", "Attempts to deliver a webhook, by result.", "outcome")
        self.delay = Histogram(
            "holon_webhook_delay_seconds", "Time from a job's end to the delivery of its webhook.", LONG
        )


class StreamMetrics:
    """What the worker door counts."""

    def __init__(self) -> None:
        self.refused = Counter(
            "holon_sessions_refused", "Sessions and other calls of workers that were refused, by error code.", "reason"
        )
        self.opened = Counter("holon_sessions_opened", "Worker sessions that opened.")
        self.ended = Counter("holon_sessions_ended", "Worker sessions that ended, by reason.", "reason")
        self.received = Counter("holon_stream_frames_received", "Messages received from workers.")
        self.sent = Counter("holon_stream_frames_sent", "Messages sent to workers.")
        self.refusals = Counter(
            "holon_stream_refusals", "Messages from workers that were refused, by error code.", "reason"
        )


class RateMetrics:
    """What is counted where calls are."""

    def __init__(self) -> None:
        self.blocked = Counter("orchestrator_ratelimit_blocked", "Calls over a rate limit.", "identifier", "path")
        self.uncounted = Counter(
            "holon_ratelimit_uncounted",
            "Calls that were not counted, because the store was not available.",
            "identifier",
            "path",
        )


class AccessMetrics:
    """What is counted where clients come in."""

    def __init__(self) -> None:
        self.refused = Counter(
            "holon_calls_refused", "Calls that were refused for lack of a permission, by error code.", "door", "reason"
        )


class ScheduleMetrics:
    """What is counted of schedules."""

    def __init__(self) -> None:
        self.slots = Counter(
            "holon_schedule_slots",
            "Times at which jobs of schedules were due, by result.",
            "schedule",
            "result",
        )

    def known(self, schedule: str) -> None:
        """Show a schedule of which nothing was due yet."""
        for result in ("made", "missed"):
            self.slots.add(schedule, result, by=0)


class ReloadMetrics:
    """What is counted where files are read again."""

    def __init__(self) -> None:
        self.reloads = Counter("holon_reloads", "Reloads of files: done or refused.", "result")
