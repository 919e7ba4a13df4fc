"""The HTTP door: the tree of a job as JSON: each field as it is read and as it is described."""

from __future__ import annotations

from typing import Any

from holon.domain.digest import Digest
from holon.domain.tree import Kind, Summary, TreeNode, Trouble, Visit
from holon.transports.http.shapes import COUNTS, Schema, or_null, record, seconds, string, time_or_null

_TROUBLE = {
    "code": string("a stable name, for programs"),
    "message": string("a sentence, for people"),
    "holon_id": string("the holon of the failure; empty if not disclosed"),
    "name": string("the skill or blueprint that failed"),
}
_DIGEST = record(
    "the fingerprint of the job's history: SHA-256 of its lines in order",
    {
        "event_count": {"type": "integer", "minimum": 0},
        "first_sequence": {"type": "integer", "minimum": 0},
        "last_sequence": {"type": "integer", "minimum": 0},
        "sha256": string("in hexadecimal"),
        "children": {
            "type": "array",
            "items": record(
                "what a job below has reported",
                {
                    "holon_id": string("the id of its holon"),
                    "job_id": string("its id in that holon"),
                    "sha256": string("in hexadecimal"),
                },
            ),
        },
    },
    ["object", "null"],
)
_COST = or_null("integer", "the cost so far, in millionths of the cost unit; null: zero, or not known", minimum=0)
_SUMMARY = record(
    "what the holon reported last; used if the holon cannot be reached now",
    {
        "task_counts": {**COUNTS, "description": "how many tasks of this job and of the jobs below are in each status"},
        "job_counts": {**COUNTS, "description": "how many jobs below are in each status"},
        "errors": {"type": "array", "items": record("a failure", _TROUBLE)},
        "states": {
            "type": "array",
            "items": record(
                "a stay in a state",
                {
                    "state": string("which"),
                    "entered_at": time_or_null("when the job entered the state"),
                    "left_at": time_or_null("when the job left the state; null if it has not"),
                },
            ),
        },
        "truncated": {"type": "boolean", "description": "whether something was left out"},
        "cost": _COST,
    },
    ["object", "null"],
)
NODE: Schema = record(
    "A job or a task of a tree; fields that do not apply are null or empty",
    {
        "node_id": string("the id of this node in the tree"),
        "parent_node_id": string("the id of the node above; empty at the root"),
        "kind": string("a job or a task", enum=[kind.value for kind in Kind]),
        "holon_id": string("the holon that has the job or the task"),
        "job_id": string("the id of the job, or of the task's job"),
        "task_id": string("the id of the task; empty for a job"),
        "name": string("the name of the blueprint or the skill"),
        "status": string("the status, as reported by the holon that has it"),
        "current_state": string("the state of a job"),
        "progress": or_null("number", "in percent; null if not known", minimum=0, maximum=100),
        "attempt": {"type": "integer", "minimum": 0, "description": "the number of the attempt of a task; 0 for a job"},
        "generation": {
            "type": "integer",
            "minimum": 0,
            "description": "for a task: 1, and one more after each retried failure; 0 for a job, or if not known",
        },
        "worker_id": string("the worker of a task; empty if not disclosed"),
        "error": record("why the job or the task failed", _TROUBLE, ["object", "null"]),
        "created_at": time_or_null("when the job was created, or the task was dispatched"),
        "finished_at": time_or_null("when it ended; null if it has not"),
        "offline": {"type": "boolean", "description": "the holon cannot be reached now, or has deleted the job"},
        "as_of": time_or_null("when this information was true; null: now"),
        "reported": {"type": "boolean", "description": "this information came from another holon"},
        "digest": _DIGEST,
        "summary": _SUMMARY,
        "cost": _COST,
    },
)


def node_json(node: TreeNode) -> dict[str, Any]:
    """Return a node as clients see it."""
    return {
        "node_id": node.id,
        "parent_node_id": node.parent,
        "kind": node.kind.value,
        "holon_id": node.holon_id,
        "job_id": node.job_id,
        "task_id": node.task_id,
        "name": node.name,
        "status": node.status,
        "current_state": node.state,
        "progress": node.progress,
        "attempt": node.attempt,
        "generation": node.generation,
        "worker_id": node.worker_id,
        "error": None if node.error is None else _trouble_json(node.error),
        "created_at": seconds(node.created_at),
        "finished_at": seconds(node.finished_at),
        "offline": node.offline,
        "as_of": seconds(node.as_of),
        "reported": node.reported,
        "digest": None if node.digest is None else _digest_json(node.digest),
        "summary": None if node.summary is None else _summary_json(node.summary),
        "cost": node.cost,
    }


def _trouble_json(one: Trouble) -> dict[str, str]:
    return {"code": one.code, "message": one.message, "holon_id": one.holon_id, "name": one.name}


def _digest_json(digest: Digest) -> dict[str, Any]:
    return {
        "event_count": digest.events,
        "first_sequence": digest.first,
        "last_sequence": digest.last,
        "sha256": digest.sha256.hex(),
        "children": [
            {"holon_id": one.holon_id, "job_id": one.job_id, "sha256": one.sha256.hex()} for one in digest.children
        ],
    }


def _summary_json(summary: Summary) -> dict[str, Any]:
    return {
        "task_counts": dict(summary.tasks),
        "job_counts": dict(summary.jobs),
        "errors": [_trouble_json(one) for one in summary.errors],
        "states": [_visit_json(one) for one in summary.states],
        "truncated": summary.truncated,
        "cost": summary.cost,
    }


def _visit_json(one: Visit) -> dict[str, Any]:
    return {"state": one.state, "entered_at": seconds(one.entered), "left_at": seconds(one.left)}
