"""Holon: a durable workflow node. Blueprints decide, workers do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holon.domain.blueprint import Blueprint
    from holon.node import OrchestratorEngine

__version__ = "0.1.0"
__all__ = ["Blueprint", "OrchestratorEngine"]

# Read when first asked for, so that a worker's process never imports the node.
_HOMES = {"Blueprint": "holon.domain.blueprint", "OrchestratorEngine": "holon.node"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
