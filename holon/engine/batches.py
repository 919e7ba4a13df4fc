"""Batches: many jobs created by one call, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

from holon.domain.client import Client
from holon.engine.jobs import Jobs
from holon.engine.requests import Accepted, Creating
from holon.errors import HolonError

# So many share a turn of the loop, and with that a transaction of the store; then others have theirs.
AT_ONCE = 64


async def create_all(jobs: Jobs, client: Client, asked: Sequence[Creating]) -> list[Accepted | HolonError]:
    """Create jobs; those that are accepted are durable when this returns. A refused one leaves the others alone.

    Returns:
        for each, in their order, the job, or why it was refused, as `Jobs.create` raises it.
    """
    outcomes: list[Accepted | HolonError] = []
    for start in range(0, len(asked), AT_ONCE):
        outcomes += await jobs.create_all(client, asked[start : start + AT_ONCE])
    return outcomes
