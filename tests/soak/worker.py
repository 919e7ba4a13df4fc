"""The soak: a worker on the SDK that takes its time, and fails now and then."""

from __future__ import annotations

import asyncio
import random

from holon.worker import TaskError, Worker
from tests.bench.control import obey, say
from tests.soak.blueprints import WORK

FAILS = 0.03
LONGEST_S = 0.3


async def main() -> None:
    """Serve the node that the environment names, until the parent is gone; then drain."""
    worker = Worker(max_concurrent=8, drain_grace=1.0)

    @worker.skill(WORK)
    async def work(n: int) -> dict[str, int]:
        await asyncio.sleep(random.random() * LONGEST_S)
        if random.random() < FAILS:
            raise TaskError("TRANSIENT_ERROR", "as happens")
        return {"echo": n}

    async with worker:
        await worker.ready()
        say(ready=True)
        gone = asyncio.Event()
        await obey(gone.set)


if __name__ == "__main__":
    asyncio.run(main())
