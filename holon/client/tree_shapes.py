"""The client: the tree of a job, as plain values. Times are epoch seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holon.client.shapes import seconds_of
from holon.rxon.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class TreeError:
    """What went wrong, and where: the holon (empty where that is not told), and the blueprint or skill."""

    code: str
    message: str
    holon_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ChildDigest:
    """The fingerprint that was told of a job below; `sha256` is hexadecimal."""

    holon_id: str
    job_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class HistoryDigest:
    """The fingerprint of so many lines of a job's history; `sha256` is hexadecimal. See `Client.fingerprint`."""

    event_count: int
    first_sequence: int
    last_sequence: int
    sha256: str
    children: tuple[ChildDigest, ...]


@dataclass(frozen=True, slots=True)
class StateVisit:
    """A stay in a state; `left_at` is None while it lasts."""

    state: str
    entered_at: float | None
    left_at: float | None


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a holon told last of a job and all below it: how many tasks and jobs there are of each status, and more."""

    task_counts: Mapping[str, int]
    job_counts: Mapping[str, int]
    errors: tuple[TreeError, ...]
    states: tuple[StateVisit, ...]
    truncated: bool
    cost: int | None


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A job or a task of a tree.

    Attributes:
        node_id: names it within the tree; `parent_node_id` the one above it, empty at the root.
        kind: `job` or `task`.
        name: the blueprint or the skill.
        worker_id: who runs a task, or did; empty where that is not disclosed.
        generation: of a task, from 1; it grows with each failure that is tried again. Earlier ones are tasks below the
            task, with the same `task_id`. 0 for a job, and where it is not known.
        offline: its holon could not be asked now; it is as of `as_of`, and `summary` is what was told last.
        reported: another holon told it.
        cost: what a job was charged so far, or what the attempts of a task cost, in millionths of the cost unit; None:
            nothing, or that is not known.
    """

    node_id: str
    parent_node_id: str
    kind: str
    holon_id: str
    job_id: str
    task_id: str
    name: str
    status: str
    current_state: str
    progress: float | None
    attempt: int
    worker_id: str
    error: TreeError | None
    created_at: float | None
    finished_at: float | None
    offline: bool
    as_of: float | None
    reported: bool
    digest: HistoryDigest | None
    summary: JobSummary | None
    cost: int | None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class TreePage:
    """A page of a tree, each node after the one above it; `next_page_token` is empty on the last."""

    nodes: tuple[TreeNode, ...]
    next_page_token: str


_KINDS = {types_pb2.TREE_NODE_KIND_JOB: "job", types_pb2.TREE_NODE_KIND_TASK: "task"}


def node_of(node: types_pb2.TreeNode) -> TreeNode:
    """A node from its message."""
    return TreeNode(
        node.node_id,
        node.parent_node_id,
        _KINDS.get(node.kind, ""),
        node.holon_id,
        node.job_id,
        node.task_id,
        node.name,
        node.status,
        node.current_state,
        node.progress if node.HasField("progress") else None,
        node.attempt,
        node.worker_id,
        _error_of(node.error) if node.HasField("error") else None,
        seconds_of(node.created_at) if node.HasField("created_at") else None,
        seconds_of(node.finished_at) if node.HasField("finished_at") else None,
        node.offline,
        seconds_of(node.as_of) if node.HasField("as_of") else None,
        node.reported,
        _digest_of(node.digest) if node.HasField("digest") else None,
        _summary_of(node.summary) if node.HasField("summary") else None,
        node.cost if node.HasField("cost") else None,
        node.generation,
    )


def _error_of(error: types_pb2.TaskErrorCause) -> TreeError:
    return TreeError(error.code, error.message, error.holon_id, error.name)


def _digest_of(digest: types_pb2.HistoryDigest) -> HistoryDigest:
    return HistoryDigest(
        digest.event_count,
        digest.first_sequence,
        digest.last_sequence,
        digest.sha256.hex(),
        tuple(ChildDigest(one.holon_id, one.job_id, one.sha256.hex()) for one in digest.children),
    )


def _summary_of(summary: types_pb2.JobSummary) -> JobSummary:
    return JobSummary(
        {one.status: one.count for one in summary.task_counts},
        {one.status: one.count for one in summary.job_counts},
        tuple(map(_error_of, summary.errors)),
        tuple(
            StateVisit(
                visit.state,
                seconds_of(visit.entered_at) if visit.HasField("entered_at") else None,
                seconds_of(visit.left_at) if visit.HasField("left_at") else None,
            )
            for visit in summary.states
        ),
        summary.truncated,
        summary.cost if summary.HasField("cost") else None,
    )
