"""Ports: a worker's live session, as the engine speaks to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holon.ports.tasks import (
    Offer,
    Stop,
)


class WorkerConnection(Protocol):
    """A worker's live session, as the engine sees it: it only ever puts things into its outgoing queue."""

    def offer(self, offers: Sequence[Offer]) -> None:
        """Send offers."""
        ...

    def stop(self, stops: Sequence[Stop]) -> None:
        """Tell the worker to stop; an offer of the same lease that was not sent yet is dropped instead."""
        ...

    def go_away(self, reason: str, message: str, time_left: int) -> None:
        """Ask the worker to take its stream elsewhere within `time_left` milliseconds."""
        ...
