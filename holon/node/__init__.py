"""The node: the composition root, and its face as a library."""

from __future__ import annotations

from holon.node.doors import Ports
from holon.node.engine import OrchestratorEngine
from holon.node.process import run_alone
from holon.node.root import Node

__all__ = ["Node", "OrchestratorEngine", "Ports", "run_alone"]
