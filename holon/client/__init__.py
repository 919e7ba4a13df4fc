"""The client of a node: its jobs, and the node itself, over gRPC; for programs and the command line. It is light."""

from __future__ import annotations

from holon.client.client import Client
from holon.client.node import NodeClient
from holon.client.node_shapes import (
    BlueprintInfo,
    EdgeInfo,
    GraphInfo,
    NodeInfo,
    NodeStats,
    SkillInfo,
    StateInfo,
    WorkerInfo,
)
from holon.client.shapes import (
    CreatedJob,
    HistoryEvent,
    HistoryPage,
    Job,
    JobError,
    JobPage,
    JobProgress,
    JobRequest,
    Update,
)

__all__ = [
    "BlueprintInfo",
    "Client",
    "CreatedJob",
    "EdgeInfo",
    "GraphInfo",
    "HistoryEvent",
    "HistoryPage",
    "Job",
    "JobError",
    "JobPage",
    "JobProgress",
    "JobRequest",
    "NodeClient",
    "NodeInfo",
    "NodeStats",
    "SkillInfo",
    "StateInfo",
    "Update",
    "WorkerInfo",
]
