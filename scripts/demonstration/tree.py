"""The demo: what the node sees of the work below it: the tree of the job, as any client gets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from holon.cli.tree import drawn
from holon.client import TreeNode

Nodes = Sequence[Mapping[str, Any]]
COUNTED = "count_source"


def census_of(nodes: Nodes) -> Mapping[str, Any] | None:
    """The job of the child's that does the work; None while there is none yet."""
    return next((node for node in nodes if node["kind"] == "job" and node["reported"]), None)


def counted(nodes: Nodes) -> list[Mapping[str, Any]]:
    """The tasks of the child's workers."""
    return [node for node in nodes if node["kind"] == "task" and node["name"] == COUNTED]


def lines(nodes: Nodes) -> list[str]:
    """The tree, drawn: of the many tasks of the child only those that run, and how many others there are."""
    rest = Counter(task["status"] for task in counted(nodes) if task["status"] not in ("offered", "running"))
    kept = [node for node in nodes if node["name"] != COUNTED or node["status"] in ("offered", "running")]
    told = list(drawn([TreeNode(**{**node, "error": None, "digest": None, "summary": None}) for node in kept]))
    if rest:
        told.append("      and " + ", ".join(f"{count} {status}" for status, count in sorted(rest.items())))
    return told
