"""The bench: how many Python functions of the project a node calls for one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.fleet import Certificates
from tests.bench.load import Load
from tests.bench.scenarios import SCENARIOS
from tests.bench.site import Site

CALLS = "calls"
JOBS = 1_000


async def calls(storage: str, folder: Path) -> dict[str, Any]:
    """Run 1,000 jobs of one task.

    Arguments:
        storage: the node's STORAGE_URI.
        folder: an empty one, for certificates and logs.
    Returns:
        `jobs`, and `calls_per_job`: calls, generators and coroutines that go on included, of functions in `holon` and
        `transports`, generated code left out.
    Raises:
        BenchError: a job did not end as it must.
    """
    jobs = SCENARIOS["one-task"].jobs
    assert jobs is not None
    async with Site("tests.bench.counted_node", jobs, storage, folder, Certificates.make(folder), (None,)) as site:
        site.load = Load(site.connections, jobs.path, jobs.tasks, jobs.result, most=JOBS)
        before = await site.calls()
        async with site.load.closed(200):
            await site.load.full.wait()
        after = await site.calls()
        made = len(await site.load.verified())
    return {"scenario": CALLS, "jobs": made, "calls_per_job": (after - before) / made}
