"""Ports: what the engine needs of the world, and the records that pass between them; `store` says what holds."""

from __future__ import annotations

from holon.ports.history import HistoryStorage, Notice, WorkerEvent
from holon.ports.jobs import Appended, Claim, Committed, Completed, Created, Creation, Fired, NewJob, Result, Step
from holon.ports.reads import MAX_PAGE_BYTES, Counts, JobFilter, JobRecord, TaskRecord
from holon.ports.store import Hint, Leases, Outbox, Reads, Steps, Storage, StoreSettings
from holon.ports.tasks import (
    Attempt,
    Handback,
    Leased,
    LeaseRef,
    NewFanOut,
    NewTask,
    Offer,
    Opened,
    Opening,
    Progress,
    Seat,
    Stop,
    StopReason,
    Superseded,
    Touch,
    Touched,
)
from holon.ports.workers import WorkerConnection

__all__ = [
    "MAX_PAGE_BYTES",
    "Appended",
    "Attempt",
    "Claim",
    "Committed",
    "Completed",
    "Counts",
    "Created",
    "Creation",
    "Fired",
    "Handback",
    "Hint",
    "HistoryStorage",
    "JobFilter",
    "JobRecord",
    "LeaseRef",
    "Leased",
    "Leases",
    "NewFanOut",
    "NewJob",
    "NewTask",
    "Notice",
    "Offer",
    "Opened",
    "Opening",
    "Outbox",
    "Progress",
    "Reads",
    "Result",
    "Seat",
    "Step",
    "Steps",
    "Stop",
    "StopReason",
    "Storage",
    "StoreSettings",
    "Superseded",
    "TaskRecord",
    "Touch",
    "Touched",
    "WorkerConnection",
    "WorkerEvent",
]
