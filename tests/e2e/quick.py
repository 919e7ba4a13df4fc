"""Nodes that find out quickly what was lost, when they are killed."""

from __future__ import annotations

from pathlib import Path

BLUEPRINTS = Path(__file__).parent / "blueprints"
QUICK = {
    "HEARTBEAT_INTERVAL_SECONDS": 1,
    "WORKER_SILENCE_SECONDS": 3,
    "TASK_LEASE_SECONDS": 5,
    "RETRY_BACKOFF_MIN_SECONDS": 0.05,
    "RETRY_BACKOFF_MAX_SECONDS": 0.2,
}
