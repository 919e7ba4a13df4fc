"""The client of a node: its jobs over gRPC, for programs, the command line and tests. Light: it imports no node."""

from __future__ import annotations

from holon.client.client import Client
from holon.client.shapes import CreatedJob, HistoryEvent, HistoryPage, Job, JobError, JobPage

__all__ = ["Client", "CreatedJob", "HistoryEvent", "HistoryPage", "Job", "JobError", "JobPage"]
