"""The domain: a blueprint as a graph, as far as it can be seen without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from holon.domain.blueprint import Blueprint
from holon.domain.integrity import targets_at
from holon.domain.states import Handler, State

Kind = Literal["start", "end", "aggregator", "ordinary"]

# A handler chooses its target as it runs: these are the states that its code names.
CHOSEN = "?"
_SHAPES = {"start": "oval", "end": "doublecircle", "aggregator": "hexagon", "ordinary": "box"}


@dataclass(frozen=True, slots=True)
class Node:
    """A state: its name, what it is, and how a job ends there (empty where it does not)."""

    name: str
    kind: Kind
    outcome: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one state to another; `label` is what takes it, if more is known than that it is taken."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The states of a blueprint, the first one first, and the ways between them."""

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def dot(self) -> str:
        """The same in the DOT language."""
        lines = [f"digraph {_quoted(self.name)} {{", "  rankdir=LR;"]
        lines += [f"  {_quoted(node.name)} [shape={_SHAPES[node.kind]}];" for node in self.nodes]
        for edge in self.edges:
            label = f" [label={_quoted(edge.label)}]" if edge.label else ""
            lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{label};")
        return "\n".join([*lines, "}", ""])


def graph_of(blueprint: Blueprint) -> Graph:
    """The graph of a sound blueprint, by reading the bytecode of its handlers."""
    states = sorted(blueprint.states.values(), key=lambda state: not state.is_start)
    edges = [edge for state in states for edge in _edges(blueprint, state)]
    return Graph(blueprint.name, tuple(map(_node, states)), tuple(edges))


def _node(state: State) -> Node:
    kind: Kind = "ordinary"
    if state.is_start:
        kind = "start"
    elif state.is_end:
        kind = "end"
    elif state.is_aggregator:
        kind = "aggregator"
    return Node(state.name, kind, state.outcome or "")


def _edges(blueprint: Blueprint, state: State) -> list[Edge]:
    edges = [edge for handler in state.handlers for edge in _edges_of(blueprint, state, handler)]
    return list(dict.fromkeys(edges))


def _edges_of(blueprint: Blueprint, state: State, handler: Handler) -> list[Edge]:
    targets = targets_at(handler)
    known = sorted(targets.constants, key=lambda one: (one.line or 0, one.label, str(one.value)))
    ways = [(one.value, one.label) for one in known if one.value in blueprint.states]
    if targets.open:
        named = {target for target, _ in ways}
        ways += [(name, CHOSEN) for name in blueprint.states if name in targets.texts and name not in named]
    return [Edge(state.name, target, _label(label, handler)) for target, label in ways]


def _label(label: str, handler: Handler) -> str:
    """What takes a way: the status, and the condition of the handler."""
    if handler.condition is None:
        return label
    return f"{label} when {handler.condition}" if label else str(handler.condition)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
