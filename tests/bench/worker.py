"""The bench: a worker on the SDK, as users write them. It reports the numbers that it echoed through a pipe."""

from __future__ import annotations

import array
import asyncio
import os
import sys

from holon.worker import Worker
from tests.bench.blueprints import SKILL
from tests.bench.control import obey, say

MAX_CONCURRENT = 100


class Reports:
    """Writes numbers to a pipe, those of one turn of the loop together."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._waiting = array.array("I")

    def add(self, number: int) -> None:
        """Report one number."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(number)

    def _flush(self) -> None:
        os.write(self._pipe, self._waiting)
        self._waiting = array.array("I")


async def main(pipe: int) -> None:
    """Serve the node that the environment names, until the parent is gone."""
    reports = Reports(pipe)
    worker = Worker(max_concurrent=MAX_CONCURRENT, drain_grace=1.0)

    @worker.skill(SKILL)
    async def echo(n: int) -> dict[str, int]:
        reports.add(n)
        return {"echo": n}

    async with worker:
        await worker.ready()
        say(ready=True)
        gone = asyncio.Event()
        await obey(gone.set)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
