"""Telemetry: the log, what the node measures of itself, and traces."""

from __future__ import annotations

from holon.telemetry.log import set_up_logging

__all__ = ["set_up_logging"]
