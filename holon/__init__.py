"""Holon: a durable workflow node. Blueprints decide, workers do."""

from __future__ import annotations

__version__ = "0.1.0"
