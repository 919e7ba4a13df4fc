"""The client: what a node says of itself, as plain values. Times are epoch seconds; what JSON carried is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holon.client.shapes import seconds_of, value_of
from holon.rxon.v1 import node_pb2, types_pb2

_KINDS = {
    node_pb2.BLUEPRINT_STATE_KIND_START: "start",
    node_pb2.BLUEPRINT_STATE_KIND_END: "end",
    node_pb2.BLUEPRINT_STATE_KIND_AGGREGATOR: "aggregator",
}
_WORKER_KINDS = {node_pb2.WORKER_KIND_WORKER: "worker", node_pb2.WORKER_KIND_HOLON: "holon"}


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who and how a node is. `node_time` is its store's clock."""

    node_id: str
    holon_id: str
    version: str
    started_at: float
    draining: bool
    node_time: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """What workers' tokens are made with from `in_force_at` on; `key_id` is of a signing key alone."""

    key_id: str
    in_force_at: float


@dataclass(frozen=True, slots=True)
class StateInfo:
    """A state: `kind` is start, end, aggregator or ordinary; `outcome` says how a job ends there, if it does."""

    name: str
    kind: str
    outcome: str


@dataclass(frozen=True, slots=True)
class EdgeInfo:
    """A way between two states; `label` is what takes it, `?` where a handler chooses as it runs."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """The states of a blueprint, the first one first, and the ways between them; `dot` is the same in DOT."""

    states: tuple[StateInfo, ...]
    edges: tuple[EdgeInfo, ...]
    dot: str


@dataclass(frozen=True, slots=True)
class BlueprintInfo:
    """A blueprint; clients create its jobs under the path `api_endpoint`, if it has one. Lists leave the graph out.

    `price` is what one job of it costs a parent, in millionths of the cost unit, if it says so.
    """

    name: str
    api_endpoint: str | None
    api_version: str | None
    description: str
    input_schema: Any
    graph: GraphInfo | None
    price: int | None = None
    output_schema: Any = None


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """How busy one device is: 0 to 100 percent, and its memory in use; None where that is not measured."""

    device_id: str
    percent: float | None
    memory_used_bytes: int | None


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """How busy a machine is: all its processors, 0 to 100 percent, and its memory; None where it is not measured."""

    cpu_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    devices: tuple[DeviceLoad, ...]


@dataclass(frozen=True, slots=True)
class ReputationReason:
    """A reason for a reputation: the code of failures, how often it came, and when last (epoch seconds)."""

    code: str
    count: int
    last_at: float


@dataclass(frozen=True, slots=True)
class ReputationInfo:
    """A worker's reputation for one skill, 0 to 1, with its reasons, the most frequent first.

    `excluded` says that the worker gets no tasks of the skill.
    """

    skill: str
    reputation: float
    excluded: bool
    reasons: tuple[ReputationReason, ...]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as its node sees it: `kind` is worker or holon, and `holon_id` that holon. `node_id` is its node, which
    has told of `held` and `last_seen_at` some seconds ago where another one is asked.

    `resources` are its machines: their devices and other properties; empty in the answer of a drain. `reputation` is
    the lowest of its `reputations`, 0 to 1; a skill without an entry there has the best, 1. `load` is how busy its
    machine is, as it told last. Both are None where the node does not say.
    `hot_skills` are those that it has loaded, `cached` what else is, as tasks hint at it; `prices` what a task costs,
    by skill, in millionths of the cost unit, of those that say so; `warnings` what is odd about what
    it says of itself.
    """

    worker_id: str
    kind: str
    holon_id: str
    connected: bool
    draining: bool
    instance_id: str
    node_id: str
    credits: int
    held: int
    skills: tuple[str, ...]
    labels: Mapping[str, str]
    sdk: str
    resources: tuple[Mapping[str, Any], ...]
    connected_at: float | None
    last_seen_at: float | None
    reputation: float | None = None
    load: MachineLoad | None = None
    hot_skills: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    prices: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    reputations: tuple[ReputationInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class SkillEvent:
    """One kind of event that a skill may send, with the JSON schema of its payload; None: anything goes."""

    type: str
    schema: Any


@dataclass(frozen=True, slots=True)
class SkillInfo:
    """A skill with one contract, and how many workers provide it; the price is in millionths of the cost unit.

    `average_reputation` is the mean of its workers' for it, 0 to 1; None where the node does not say. `events` are
    those that it may send; none: any.
    """

    name: str
    type: str
    version: str
    description: str
    input_schema: Any
    output_schema: Any
    statuses: tuple[str, ...]
    provider_count: int
    lowest_price: int | None
    average_reputation: float | None = None
    events: tuple[SkillEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeStats:
    """The figures of `as_of`: of the whole holon jobs that are not over, by status, and tasks; of this node the rest.

    `uptime` is seconds.
    """

    jobs: Mapping[str, int]
    tasks_queued: int
    tasks_leased: int
    workers_connected: int
    sessions: int
    uptime: float
    as_of: float


def node_of(message: node_pb2.Node) -> NodeInfo:
    """Read who a node is off the wire."""
    return NodeInfo(
        message.node_id,
        message.holon_id,
        message.version,
        seconds_of(message.started_at),
        message.draining,
        seconds_of(message.node_time),
    )


def rotation_of(message: node_pb2.RotateTokensResponse) -> Rotation:
    """Read what was rotated off the wire."""
    return Rotation(message.key_id, seconds_of(message.in_force_at))


def blueprint_of(message: node_pb2.Blueprint) -> BlueprintInfo:
    """Read a blueprint off the wire."""
    return BlueprintInfo(
        message.name,
        message.api_endpoint or None,
        message.api_version or None,
        message.description,
        value_of(message.input_schema) if message.HasField("input_schema") else None,
        _graph_of(message.graph) if message.HasField("graph") else None,
        message.price if message.HasField("price") else None,
        value_of(message.output_schema) if message.HasField("output_schema") else None,
    )


def _graph_of(message: node_pb2.BlueprintGraph) -> GraphInfo:
    states = [StateInfo(one.name, _KINDS.get(one.kind, "ordinary"), one.outcome) for one in message.states]
    edges = [EdgeInfo(one.source, one.target, one.label) for one in message.edges]
    return GraphInfo(tuple(states), tuple(edges), message.dot)


def worker_of(message: node_pb2.WorkerInfo) -> WorkerInfo:
    """Read a worker off the wire."""
    return WorkerInfo(
        worker_id=message.worker_id,
        kind=_WORKER_KINDS.get(message.kind, ""),
        holon_id=message.holon_id,
        connected=message.connected,
        draining=message.draining,
        instance_id=message.instance_id,
        node_id=message.node_id,
        credits=message.credits,
        held=message.held,
        skills=tuple(message.skills),
        labels=dict(message.labels),
        sdk=message.sdk,
        resources=tuple(_machine_of(one) for one in message.resources),
        connected_at=seconds_of(message.connected_at) if message.HasField("connected_at") else None,
        last_seen_at=seconds_of(message.last_seen_at) if message.HasField("last_seen_at") else None,
        reputation=message.reputation if message.HasField("reputation") else None,
        load=_load_of(message.load) if message.HasField("load") else None,
        hot_skills=tuple(message.hot_skills),
        cached=tuple(message.cached),
        prices=dict(message.prices),
        warnings=tuple(message.warnings),
        reputations=tuple(map(_reputation_of, message.reputations)),
    )


def _reputation_of(message: node_pb2.SkillReputation) -> ReputationInfo:
    reasons = tuple(ReputationReason(one.code, one.count, seconds_of(one.last_at)) for one in message.reasons)
    return ReputationInfo(message.skill, message.reputation, message.excluded, reasons)


def _load_of(message: node_pb2.MachineLoad) -> MachineLoad:
    return MachineLoad(
        message.cpu_percent if message.HasField("cpu_percent") else None,
        message.memory_used_bytes if message.HasField("memory_used_bytes") else None,
        message.memory_total_bytes if message.HasField("memory_total_bytes") else None,
        tuple(
            DeviceLoad(
                one.device_id,
                one.percent if one.HasField("percent") else None,
                one.memory_used_bytes if one.HasField("memory_used_bytes") else None,
            )
            for one in message.devices
        ),
    )


def _machine_of(message: types_pb2.Resources) -> dict[str, Any]:
    devices = [
        {"type": one.type, "model": one.model, "id": one.id, "properties": value_of(one.properties) or {}}
        for one in message.devices
    ]
    return {"devices": devices, "properties": value_of(message.properties) or {}}


def skill_of(message: node_pb2.Skill) -> SkillInfo:
    """Read a skill off the wire."""
    return SkillInfo(
        name=message.name,
        type=message.type,
        version=message.version,
        description=message.description,
        input_schema=value_of(message.input_schema) if message.HasField("input_schema") else None,
        output_schema=value_of(message.output_schema) if message.HasField("output_schema") else None,
        statuses=tuple(message.statuses),
        provider_count=message.provider_count,
        lowest_price=message.lowest_price if message.HasField("lowest_price") else None,
        average_reputation=message.average_reputation if message.HasField("average_reputation") else None,
        events=tuple(
            SkillEvent(one.type, value_of(one.schema) if one.HasField("schema") else None) for one in message.events
        ),
    )


def stats_of(message: node_pb2.GetStatsResponse) -> NodeStats:
    """Read the figures off the wire."""
    return NodeStats(
        jobs={one.status: one.count for one in message.jobs},
        tasks_queued=message.tasks_queued,
        tasks_leased=message.tasks_leased,
        workers_connected=message.workers_connected,
        sessions=message.sessions,
        uptime=message.uptime.seconds + message.uptime.nanos / 1e9,
        as_of=seconds_of(message.as_of),
    )
