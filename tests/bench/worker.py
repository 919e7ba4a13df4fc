"""The bench: a worker on the SDK, as users write them. It reports the numbers that it echoed through a pipe."""

from __future__ import annotations

import asyncio
import sys

from holon.worker import Worker
from tests.bench.blueprints import SKILL, held
from tests.bench.control import Reporter, obey, say


async def main(pipe: int, max_concurrent: int) -> None:
    """Serve the node that the environment names, with so many tasks at once, until the parent is gone."""
    reports = Reporter(pipe)
    worker = Worker(max_concurrent=max_concurrent, drain_grace=1.0)

    @worker.skill(SKILL)
    async def echo(n: int) -> dict[str, int]:
        reports.add(n)
        await held()
        return {"echo": n}

    async with worker:
        await worker.ready()
        say(ready=True)
        gone = asyncio.Event()
        await obey(gone.set)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
