"""Skills of workers that are about something else."""

from __future__ import annotations


def nothing() -> None:
    """It does nothing."""
