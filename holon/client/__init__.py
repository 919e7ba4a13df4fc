"""The client of a node: its jobs, and the node itself, over gRPC; for programs and the command line. It is light."""

from __future__ import annotations

from holon.client.client import Client
from holon.client.node import NodeClient
from holon.client.node_shapes import (
    BlueprintInfo,
    DeviceLoad,
    EdgeInfo,
    GraphInfo,
    MachineLoad,
    NodeInfo,
    NodeStats,
    SkillEvent,
    SkillInfo,
    StateInfo,
    WorkerInfo,
)
from holon.client.shapes import (
    Approval,
    CreatedJob,
    HistoryEvent,
    HistoryPage,
    Job,
    JobError,
    JobLogs,
    JobPage,
    JobProgress,
    JobRequest,
    LogLine,
    PendingSignal,
    Update,
)
from holon.client.tree_shapes import (
    ChildDigest,
    HistoryDigest,
    JobSummary,
    StateVisit,
    TreeError,
    TreeNode,
    TreePage,
)

__all__ = [
    "Approval",
    "BlueprintInfo",
    "ChildDigest",
    "Client",
    "CreatedJob",
    "DeviceLoad",
    "EdgeInfo",
    "GraphInfo",
    "HistoryDigest",
    "HistoryEvent",
    "HistoryPage",
    "Job",
    "JobError",
    "JobLogs",
    "JobPage",
    "JobProgress",
    "JobRequest",
    "JobSummary",
    "LogLine",
    "MachineLoad",
    "NodeClient",
    "NodeInfo",
    "NodeStats",
    "PendingSignal",
    "SkillEvent",
    "SkillInfo",
    "StateInfo",
    "StateVisit",
    "TreeError",
    "TreeNode",
    "TreePage",
    "Update",
    "WorkerInfo",
]
