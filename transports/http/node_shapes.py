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

_PROPERTIES: Schema = {"type": "object", "additionalProperties": ANYTHING, "description": "what else it says of it"}
_PERCENT = "0 to 100 percent; null where that is not measured"
_BYTES = "in bytes; null where that is not measured"
_PRICE = "in millionths of the cost unit; null where that is not declared"


def _count(about: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": about}


def _whether(about: str) -> Schema:
    return {"type": "boolean", "description": f"whether {about}"}


def _texts(about: str) -> Schema:
    return {"type": "array", "items": {"type": "string"}, "description": about}


BLUEPRINT: Schema = record(
    "A state machine that jobs run",
    {
        "name": string("what it is known by"),
        "api_endpoint": or_null("string", "the path under which its jobs are created; null where clients cannot"),
        "api_version": or_null("string", "the version in that path; null where it has none"),
        "input_schema": object_or_null("JSON Schema of `initial_data`; null: any object is taken"),
        "output_schema": object_or_null("JSON Schema of the result; null: nothing is promised"),
        "price": or_null("integer", f"what one job of it costs a parent at most, {_PRICE}", minimum=0),
    },
)
_DEVICE: Schema = record(
    "A device",
    {"type": string("such as `gpu`"), "model": string("its model"), "id": string("its id"), "properties": _PROPERTIES},
)
_MACHINE: Schema = record("A machine", {"devices": {"type": "array", "items": _DEVICE}, "properties": _PROPERTIES})
_DEVICE_LOAD: Schema = record(
    "How busy a device is",
    {
        "device_id": string("the device"),
        "percent": or_null("number", _PERCENT, minimum=0, maximum=100),
        "memory_used_bytes": or_null("integer", _BYTES, minimum=0),
    },
)
_LOAD: Schema = record(
    "How busy a machine is",
    {
        "cpu_percent": or_null("number", f"of all its processors, {_PERCENT}", minimum=0, maximum=100),
        "memory_used_bytes": or_null("integer", f"memory in use, {_BYTES}", minimum=0),
        "memory_total_bytes": or_null("integer", f"all its memory, {_BYTES}", minimum=0),
        "devices": {"type": "array", "items": _DEVICE_LOAD},
    },
)
_REASON: Schema = record(
    "A reason for a reputation",
    {
        "code": string("the code of the failures: the worker's, or TIMEOUT_ERROR, LEASE_EXPIRED or WORKER_LOST"),
        "count": _count("how often it came since the reputation was last 1"),
        "last_at": time("when it came last"),
    },
)
_REPUTATION: Schema = record(
    "A worker's reputation for one skill",
    {
        "skill": string("the skill"),
        "reputation": {"type": "number", "minimum": 0, "maximum": 1, "description": "how well it did"},
        "excluded": _whether("it gets no tasks of the skill: its reputation is under REPUTATION_MIN_THRESHOLD"),
        "reasons": {"type": "array", "items": _REASON, "description": "why it is not 1, the most frequent first"},
    },
)
WORKER: Schema = record(
    "A worker, as the node that holds its session sees it",
    {
        "worker_id": string("what it is known by"),
        "kind": string("whether it is a worker, or a holon that works as one", enum=["worker", "holon"]),
        "holon_id": string("the holon that it is; empty for a worker"),
        "connected": _whether("it has a live session"),
        "draining": _whether("it gets no more tasks because it, or an operator, said so"),
        "instance_id": string("its process"),
        "node_id": string("the node that holds its session; empty when it has none"),
        "credits": _count("how many tasks it may hold in all"),
        "held": _count("how many it holds, offered and accepted; of another node's worker, as that told last"),
        "skills": _texts("what it offers, by name"),
        "labels": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "what it is called by those who run it",
        },
        "sdk": string("its library, for people"),
        "resources": {"type": "array", "items": _MACHINE, "description": "the machines behind it"},
        "connected_at": time_or_null("when its session began; null when it has none"),
        "last_seen_at": time_or_null("when it was last heard of; of another node's worker, as that told last"),
        "reputation": or_null("number", "the lowest of its reputations, 0 to 1", minimum=0, maximum=1),
        "reputations": {
            "type": "array",
            "items": _REPUTATION,
            "description": "by skill, the lowest first; a skill that is not here has 1",
        },
        "load": {"anyOf": [_LOAD, {"type": "null"}], "description": "as it told last; null where it does not say"},
        "hot_skills": _texts("the skills that it has loaded"),
        "cached": _texts("what else it has loaded, as tasks hint at it"),
        "prices": {
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 0},
            "description": "what a task costs, by skill, in millionths of the cost unit; of those that say so",
        },
        "warnings": _texts("what is odd about what it says of itself"),
    },
)
_EVENT: Schema = record(
    "One kind of event",
    {
        "type": string("its type"),
        "schema": object_or_null("JSON Schema of its payload; null: anything goes"),
    },
)
SKILL: Schema = record(
    "A skill with one contract, and who provides it",
    {
        "name": string("its name"),
        "type": string("its type; empty when it has none"),
        "version": string("its version; empty when it has none"),
        "description": string("what it does, for people"),
        "input_schema": object_or_null("JSON Schema of its params; null: it takes everything"),
        "output_schema": object_or_null("JSON Schema of the data of a success; null: nothing is promised"),
        "statuses": _texts("those that it may end with besides success, failure and cancelled"),
        "provider_count": _count("how many workers provide it now"),
        "lowest_price": or_null("integer", f"the lowest that is declared, {_PRICE}", minimum=0),
        "average_reputation": or_null("number", "the mean of its workers' for it, 0 to 1", minimum=0, maximum=1),
        "events": {"type": "array", "items": _EVENT, "description": "those that it may send; none: any"},
    },
)
FIGURES: Schema = record(
    "The figures of now",
    {
        "jobs": {**COUNTS, "description": "how many jobs of the whole holon that are not over are in each status"},
        "tasks_queued": _count("tasks of the whole holon that wait for a worker"),
        "tasks_leased": _count("tasks of the whole holon that workers hold"),
        "workers_connected": _count("workers with a live session at this node"),
        "sessions": _count("sessions on this node"),
        "uptime": {"type": "number", "minimum": 0, "description": "how long this node has been running; seconds"},
        "as_of": time("when this was true"),
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
