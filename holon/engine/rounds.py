"""Rounds: jobs that are looked at again once they have changed, many at a time, and not all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

# What changes all the time is looked at so often, at most; what has just begun sooner, at first.
LINGER_S = 0.01
FIRST_LINGER_S = 0.001
# So many jobs are read at the same time.
READ_AT_ONCE = 32
# A hint can be lost; this is how long a change can then go unseen.
LOOK_EVERY_S = 30.0


def pause(times: int) -> float:
    """How many seconds are left between what is told of a job and the next, when it was told so often.

    The first change and the second may be the beginning and the end of a job of one task.
    """
    return 0.0 if times == 1 else min(FIRST_LINGER_S * times**2, LINGER_S)


class Rounds:
    """The jobs that are to be looked at.

    Arguments:
        jobs: the ids of all that may be.
        look: looks at one; answers with the seconds after which it is of use to look at any again.
    """

    def __init__(self, jobs: Collection[str], look: Callable[[str], Awaitable[float]]) -> None:
        self._jobs = jobs
        self._look = look
        self._marked: set[str] = set()
        self._some = asyncio.Event()

    def __repr__(self) -> str:
        return f"Rounds(jobs={len(self._jobs)}, marked={len(self._marked)})"

    def mark(self, job_id: str) -> None:
        """Have a job looked at soon, if it is one of them."""
        if job_id in self._jobs:
            self._marked.add(job_id)
            self._some.set()

    async def run(self) -> None:
        """Look at what is marked, and now and then at all of them, until cancelled."""
        loop = asyncio.get_running_loop()
        look_at = loop.time() + LOOK_EVERY_S
        while True:
            try:
                async with asyncio.timeout_at(look_at):
                    await self._some.wait()
            except TimeoutError:
                self._marked.update(self._jobs)
                look_at = loop.time() + LOOK_EVERY_S
            self._some.clear()
            linger = FIRST_LINGER_S
            while self._marked:
                batch = [self._marked.pop() for _ in range(min(READ_AT_ONCE, len(self._marked)))]
                pauses = await asyncio.gather(*map(self._look, batch))
                await asyncio.sleep(max(linger, *pauses))
                linger = min(2 * linger, LINGER_S)
