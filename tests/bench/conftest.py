"""The smoke tests' fixtures."""

from __future__ import annotations

from tests.forked_children import forked_children

__all__ = ["forked_children"]
