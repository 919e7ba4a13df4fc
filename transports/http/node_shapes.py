"""The HTTP door: what a node tells of itself as JSON: each field as it is read and as it is described."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Device, Machine, SkillReputation, SkillView, WorkerView
from holon.engine.overview import Stats
from holon.transports.http.shapes import (
    ANYTHING,
    COUNTS,
    Schema,
    object_or_null,
    or_null,
    record,
    seconds,
    string,
    time,
    time_or_null,
)

_PROPERTIES: Schema = {
    "type": "object",
    "additionalProperties": ANYTHING,
    "description": "other properties that the worker reported",
}
_PERCENT = "0 to 100 percent; null if not measured"
_BYTES = "in bytes; null if not measured"
_PRICE = "in millionths of the cost unit; null if not declared"


def _count(about: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": about}


def _whether(about: str) -> Schema:
    return {"type": "boolean", "description": f"whether {about}"}


def _texts(about: str) -> Schema:
    return {"type": "array", "items": {"type": "string"}, "description": about}


BLUEPRINT: Schema = record(
    "A state machine; each job runs one",
    {
        "name": string("the name of the blueprint"),
        "api_endpoint": or_null("string", "the path to create its jobs; null if clients cannot create them"),
        "api_version": or_null("string", "the version in that path; null if it has none"),
        "input_schema": object_or_null("JSON Schema of `initial_data`; null: any object"),
        "output_schema": object_or_null("JSON Schema of the result; null: none declared"),
        "price": or_null("integer", f"the most that one of its jobs costs a parent holon, {_PRICE}", minimum=0),
    },
)
_DEVICE: Schema = record(
    "A device",
    {"type": string("such as `gpu`"), "model": string("its model"), "id": string("its id"), "properties": _PROPERTIES},
)
_MACHINE: Schema = record("A machine", {"devices": {"type": "array", "items": _DEVICE}, "properties": _PROPERTIES})
_DEVICE_LOAD: Schema = record(
    "The load of a device",
    {
        "device_id": string("the id of the device"),
        "percent": or_null("number", _PERCENT, minimum=0, maximum=100),
        "memory_used_bytes": or_null("integer", _BYTES, minimum=0),
    },
)
_LOAD: Schema = record(
    "The load of a machine",
    {
        "cpu_percent": or_null("number", f"load of all processors, {_PERCENT}", minimum=0, maximum=100),
        "memory_used_bytes": or_null("integer", f"memory in use, {_BYTES}", minimum=0),
        "memory_total_bytes": or_null("integer", f"total memory, {_BYTES}", minimum=0),
        "devices": {"type": "array", "items": _DEVICE_LOAD},
    },
)
_REASON: Schema = record(
    "Failures that lowered a reputation",
    {
        "code": string("the error code: that of the worker, or TIMEOUT_ERROR, LEASE_EXPIRED or WORKER_LOST"),
        "count": _count("how many failures since the reputation was last 1"),
        "last_at": time("when the newest failure happened"),
    },
)
_REPUTATION: Schema = record(
    "A worker's reputation for one skill",
    {
        "skill": string("the name of the skill"),
        "reputation": {"type": "number", "minimum": 0, "maximum": 1, "description": "from 0 (worst) to 1 (best)"},
        "excluded": _whether(
            "the worker gets no tasks of the skill, because the reputation is below REPUTATION_MIN_THRESHOLD"
        ),
        "reasons": {
            "type": "array",
            "items": _REASON,
            "description": "why the reputation is below 1, the most frequent reason first",
        },
    },
)
WORKER: Schema = record(
    "A worker, as the node that holds its session sees it",
    {
        "worker_id": string("the id of the worker"),
        "kind": string("a worker, or a child holon", enum=["worker", "holon"]),
        "holon_id": string("the id of the child holon; empty for a worker"),
        "connected": _whether("the worker has a live session"),
        "draining": _whether("the worker gets no more tasks, because it or an operator requested this"),
        "instance_id": string("the id of the worker's process"),
        "node_id": string("the node that holds the worker's session; empty if there is none"),
        "credits": _count("how many tasks the worker may hold"),
        "held": _count(
            "how many tasks the worker holds, offered and accepted; for a worker of another node, as last reported"
        ),
        "skills": _texts("the names of the worker's skills"),
        "labels": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "the worker's labels, which its operator chose",
        },
        "sdk": string("the name and version of the worker's SDK"),
        "resources": {"type": "array", "items": _MACHINE, "description": "the worker's machines"},
        "connected_at": time_or_null("when the session began; null if there is none"),
        "last_seen_at": time_or_null(
            "when the node last received a message of the worker; for a worker of another node, as last reported"
        ),
        "reputation": or_null("number", "the lowest reputation of its skills, 0 to 1", minimum=0, maximum=1),
        "reputations": {
            "type": "array",
            "items": _REPUTATION,
            "description": "reputations by skill, the lowest first; a skill that is not listed has 1",
        },
        "load": {
            "anyOf": [_LOAD, {"type": "null"}],
            "description": "the load as last reported; null if never reported",
        },
        "hot_skills": _texts("the skills that the worker has loaded"),
        "cached": _texts("what else the worker has loaded, for the resource hints of tasks"),
        "prices": {
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 0},
            "description": "the price of a task by skill, in millionths of the cost unit; only of skills with a price",
        },
        "warnings": _texts("problems in what the worker reports about itself"),
    },
)
_EVENT: Schema = record(
    "A type of event",
    {
        "type": string("the name of the type"),
        "schema": object_or_null("JSON Schema of the payload; null: any payload"),
    },
)
SKILL: Schema = record(
    "A skill with one contract, and its workers",
    {
        "name": string("the name of the skill"),
        "type": string("the type of the skill; empty if it has none"),
        "version": string("the version of the skill; empty if it has none"),
        "description": string("what the skill does, for people"),
        "input_schema": object_or_null("JSON Schema of the params; null: any params"),
        "output_schema": object_or_null("JSON Schema of the data of a success; null: none declared"),
        "statuses": _texts("the statuses that its tasks may end with, besides success, failure and cancelled"),
        "provider_count": _count("how many connected workers have the skill"),
        "lowest_price": or_null("integer", f"the lowest declared price, {_PRICE}", minimum=0),
        "average_reputation": or_null("number", "the mean reputation of its workers, 0 to 1", minimum=0, maximum=1),
        "events": {
            "type": "array",
            "items": _EVENT,
            "description": "the types of events that its tasks may send; empty: any",
        },
    },
)
FIGURES: Schema = record(
    "Current figures of the node and its holon",
    {
        "jobs": {**COUNTS, "description": "how many open jobs of the holon are in each status"},
        "tasks_queued": _count("tasks of the holon that wait for a worker"),
        "tasks_leased": _count("tasks of the holon that workers hold"),
        "workers_connected": _count("workers with a live session on this node"),
        "sessions": _count("live sessions on this node"),
        "uptime": {"type": "number", "minimum": 0, "description": "how long this node has run; seconds"},
        "as_of": time("when the figures were taken"),
    },
)


def blueprint_json(blueprint: Blueprint) -> dict[str, Any]:
    """Return a blueprint as clients see it."""
    return {
        "name": blueprint.name,
        "api_endpoint": blueprint.path,
        "api_version": blueprint.path and blueprint.api_version,
        "input_schema": blueprint.input_schema,
        "output_schema": blueprint.output_schema,
        "price": blueprint.price,
    }


def worker_json(worker: WorkerView) -> dict[str, Any]:
    """Return a worker as administrators see it."""
    return {
        "worker_id": worker.worker_id,
        "kind": worker.kind,
        "holon_id": worker.holon_id,
        "connected": worker.connected,
        "draining": worker.draining,
        "instance_id": worker.instance_id,
        "node_id": worker.node_id,
        "credits": worker.credits,
        "held": worker.held,
        "skills": worker.skills,
        "labels": worker.told_labels,
        "sdk": worker.sdk,
        "resources": [_machine_json(one) for one in worker.catalog.machines],
        "connected_at": seconds(worker.connected_at),
        "last_seen_at": seconds(worker.last_seen_at),
        "reputation": worker.reputation,
        "reputations": [_reputation_json(one) for one in worker.reputations or ()],
        "load": None if worker.load is None else asdict(worker.load),
        "hot_skills": sorted(worker.catalog.hot),
        "cached": sorted(worker.catalog.cached),
        "prices": worker.prices,
        "warnings": worker.catalog.warnings,
    }


def _reputation_json(one: SkillReputation) -> dict[str, Any]:
    reasons = [
        {"code": reason.code, "count": reason.count, "last_at": seconds(reason.last_at)} for reason in one.reasons
    ]
    return {"skill": one.skill, "reputation": one.value, "excluded": not one.trusted, "reasons": reasons}


def _machine_json(machine: Machine) -> dict[str, Any]:
    return {"devices": [_device_json(one) for one in machine.devices], "properties": machine.properties}


def _device_json(device: Device) -> dict[str, Any]:
    return {"type": device.type, "model": device.model, "id": device.id, "properties": device.properties}


def skill_json(view: SkillView) -> dict[str, Any]:
    """Return a skill as clients see it."""
    skill = view.skill
    return {
        "name": skill.name,
        "type": skill.type,
        "version": skill.version,
        "description": skill.description,
        "input_schema": skill.input_schema,
        "output_schema": skill.output_schema,
        "statuses": skill.statuses,
        "provider_count": view.providers,
        "lowest_price": view.lowest_price,
        "average_reputation": view.average_reputation,
        "events": [{"type": kind, "schema": schema} for kind, schema in (skill.events or {}).items()],
    }


def figures_json(stats: Stats) -> dict[str, Any]:
    """Return the figures as administrators see them."""
    counts = stats.counts
    return {
        "jobs": {status.value: counts.jobs[status] for status in sorted(counts.jobs)},
        "tasks_queued": counts.queued,
        "tasks_leased": counts.held,
        "workers_connected": stats.workers,
        "sessions": stats.workers,
        "uptime": seconds(stats.uptime),
        "as_of": seconds(stats.as_of),
    }
