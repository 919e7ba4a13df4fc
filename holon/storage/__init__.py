"""Stores: where jobs, tasks and their history live. All keep the same rules; see `holon.ports`."""

from __future__ import annotations

from holon.storage.memory import MemoryStorage

__all__ = ["MemoryStorage"]
