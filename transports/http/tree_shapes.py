"""The HTTP door: the tree of a job as JSON: each field as it is read and as it is described."""

from __future__ import annotations

from typing import Any

from holon.domain.digest import Digest
from holon.domain.tree import Kind, Summary, TreeNode, Trouble, Visit
from holon.transports.http.shapes import COUNTS, Schema, or_null, record, seconds, string, time_or_null

_TROUBLE = {
    "code": string("a stable name, for programs"),
    "message": string("a sentence, for people"),
    "holon_id": string("the holon in which it happened; empty where that is not told"),
    "name": string("the skill or blueprint that failed"),
}
_DIGEST = record(
    "the fingerprint of its history: SHA-256 of its lines in order",
    {
        "event_count": {"type": "integer", "minimum": 0},
        "first_sequence": {"type": "integer", "minimum": 0},
        "last_sequence": {"type": "integer", "minimum": 0},
        "sha256": string("in hexadecimal"),
        "children": {
            "type": "array",
            "items": record(
                "what was told of a job below",
                {"holon_id": string("its holon"), "job_id": string("its id there"), "sha256": string("in hexadecimal")},
            ),
        },
    },
    ["object", "null"],
)
_COST = or_null(
    "integer", "what it was charged so far, in millionths of the cost unit; null: nothing, or not known", minimum=0
)
_SUMMARY = record(
    "what its holon told last of it, where that could not be asked now",
    {
        "task_counts": {**COUNTS, "description": "how many tasks of it and below it are in each status"},
        "job_counts": {**COUNTS, "description": "how many jobs below it are in each status"},
        "errors": {"type": "array", "items": record("what went wrong", _TROUBLE)},
        "states": {
            "type": "array",
            "items": record(
                "a stay in a state",
                {
                    "state": string("which"),
                    "entered_at": time_or_null("when it began"),
                    "left_at": time_or_null("when it ended; null while it lasts"),
                },
            ),
        },
        "truncated": {"type": "boolean", "description": "whether something was left out"},
        "cost": _COST,
    },
    ["object", "null"],
)
NODE: Schema = record(
    "A job or a task of a tree; what does not apply is null, or empty",
    {
        "node_id": string("what it is known by within the tree"),
        "parent_node_id": string("the one above it; empty at the root"),
        "kind": string("what it is", enum=[kind.value for kind in Kind]),
        "holon_id": string("the holon where it is"),
        "job_id": string("the job, or that which the task belongs to"),
        "task_id": string("the task; empty for a job"),
        "name": string("the blueprint or the skill"),
        "status": string("where it stands, as its own holon says"),
        "current_state": string("the state that a job is in"),
        "progress": or_null("number", "in percent; null where it is not known", minimum=0, maximum=100),
        "attempt": {"type": "integer", "minimum": 0, "description": "which attempt of a task this is; 0 for a job"},
        "generation": {
            "type": "integer",
            "minimum": 0,
            "description": "of a task: it grows with each failure that is tried again; 0 for a job, or not known",
        },
        "worker_id": string("who runs a task, or did; empty where that is not disclosed"),
        "error": record("why it failed", _TROUBLE, ["object", "null"]),
        "created_at": time_or_null("when it was accepted, or sent"),
        "finished_at": time_or_null("when it ended; null until then"),
        "offline": {"type": "boolean", "description": "whether its holon could not be asked, or has deleted the job"},
        "as_of": time_or_null("when this was true; null: now"),
        "reported": {"type": "boolean", "description": "whether another holon told it"},
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
