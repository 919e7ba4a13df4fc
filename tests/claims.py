"""Claims of jobs, where a test runs them itself."""

from __future__ import annotations

from holon.ports import Claim, Storage


async def claimed(store: Storage, limit: int = 10_000) -> list[Claim]:
    """Claim what is ready until so many jobs are claimed; returns the new claims, in the order of their jobs."""
    begun: list[Claim] = []
    for most in (limit, 0):
        store.run_jobs(most, begun.append)
    # The store shows nothing before it is durable.
    await store.counts()
    return begun
