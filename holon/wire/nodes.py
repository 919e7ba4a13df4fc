"""The wire: a node as its operators see it: blueprints and their graphs, workers, skills, figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from holon.domain.blueprint import Blueprint
from holon.domain.fleet import SkillReputation, SkillView, WorkerView
from holon.domain.graph import Graph
from holon.ports import Counts
from holon.rxon.v1 import node_pb2, types_pb2
from holon.wire.load import load_message
from holon.wire.resources import resources_message
from holon.wire.values import json_payload, timestamp

_KINDS = {
    "start": node_pb2.BLUEPRINT_STATE_KIND_START,
    "end": node_pb2.BLUEPRINT_STATE_KIND_END,
    "aggregator": node_pb2.BLUEPRINT_STATE_KIND_AGGREGATOR,
    "ordinary": node_pb2.BLUEPRINT_STATE_KIND_UNSPECIFIED,
}
_WORKER_KINDS = {"worker": node_pb2.WORKER_KIND_WORKER, "holon": node_pb2.WORKER_KIND_HOLON}


def blueprint_message(blueprint: Blueprint, graph: Graph | None = None) -> node_pb2.Blueprint:
    """A blueprint with the contracts of its input and its result; with its graph, if that is given."""
    message = node_pb2.Blueprint(
        name=blueprint.name,
        api_endpoint=blueprint.path or "",
        api_version=(blueprint.path and blueprint.api_version) or "",
        price=blueprint.price,
    )
    if blueprint.input_schema is not None:
        message.input_schema.CopyFrom(_json(blueprint.input_schema))
    if blueprint.output_schema is not None:
        message.output_schema.CopyFrom(_json(blueprint.output_schema))
    if graph is not None:
        message.graph.CopyFrom(_graph(graph))
    return message


def _graph(graph: Graph) -> node_pb2.BlueprintGraph:
    states = [node_pb2.BlueprintState(name=one.name, kind=_KINDS[one.kind], outcome=one.outcome) for one in graph.nodes]
    edges = [node_pb2.BlueprintEdge(source=one.source, target=one.target, label=one.label) for one in graph.edges]
    return node_pb2.BlueprintGraph(states=states, edges=edges, dot=graph.dot)


def worker_message(worker: WorkerView) -> node_pb2.WorkerInfo:
    """A worker."""
    message = node_pb2.WorkerInfo(
        worker_id=worker.worker_id,
        kind=_WORKER_KINDS[worker.kind],
        holon_id=worker.holon_id,
        connected=worker.connected,
        draining=worker.draining,
        instance_id=worker.instance_id,
        node_id=worker.node_id,
        credits=worker.credits,
        held=worker.held,
        skills=worker.skills,
        resources=[resources_message(machine) for machine in worker.catalog.machines],
        sdk=worker.sdk,
        labels=worker.told_labels,
        reputation=worker.reputation,
        load=None if worker.load is None else load_message(worker.load),
        hot_skills=sorted(worker.catalog.hot),
        cached=sorted(worker.catalog.cached),
        prices=worker.prices,
        warnings=worker.catalog.warnings,
        reputations=[_reputation_message(one) for one in worker.reputations or ()],
    )
    if worker.connected_at is not None:
        message.connected_at.CopyFrom(timestamp(worker.connected_at))
    if worker.last_seen_at is not None:
        message.last_seen_at.CopyFrom(timestamp(worker.last_seen_at))
    return message


def _reputation_message(one: SkillReputation) -> node_pb2.SkillReputation:
    reasons = [
        node_pb2.ReputationReason(code=reason.code, count=reason.count, last_at=timestamp(reason.last_at))
        for reason in one.reasons
    ]
    return node_pb2.SkillReputation(skill=one.skill, reputation=one.value, excluded=not one.trusted, reasons=reasons)


def skill_message(view: SkillView) -> node_pb2.Skill:
    """A skill with one contract, and who provides it."""
    skill = view.skill
    message = node_pb2.Skill(
        name=skill.name,
        type=skill.type,
        version=skill.version,
        description=skill.description,
        statuses=skill.statuses,
        provider_count=view.providers,
        lowest_price=view.lowest_price,
        average_reputation=view.average_reputation,
    )
    if skill.input_schema is not None:
        message.input_schema.CopyFrom(_json(skill.input_schema))
    if skill.output_schema is not None:
        message.output_schema.CopyFrom(_json(skill.output_schema))
    for kind, schema in (skill.events or {}).items():
        event = message.events.add(type=kind)
        if schema is not None:
            event.schema.CopyFrom(_json(schema))
    return message


def counts_message(counts: Counts) -> node_pb2.GetStatsResponse:
    """How much there is of what is not over; the rest of the figures are the node's own."""
    jobs = [types_pb2.StatusCount(status=status, count=counts.jobs[status]) for status in sorted(counts.jobs)]
    return node_pb2.GetStatsResponse(jobs=jobs, tasks_queued=counts.queued, tasks_leased=counts.held)


def _json(value: Mapping[str, Any]) -> types_pb2.Payload:
    return json_payload(orjson.dumps(value))
