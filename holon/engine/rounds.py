"""Rounds: jobs that are looked at again once they have changed, many at a time, and not all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from functools import partial

# What changes all the time is looked at so often, at most; what has just begun sooner, at first.
LINGER_S = 0.01
FIRST_LINGER_S = 0.001
# So many jobs are read at the same time, and others wait for them so long: a part of the store may be away.
READ_AT_ONCE = 32
PATIENCE_S = 0.025
# A hint can be lost; this is how long a change can then go unseen.
LOOK_EVERY_S = 30.0


def pause(times: int) -> float:
    """How many seconds are left between what is told of a job and the next, when it was told so often.

    The first change and the second may be the beginning and the end of a job of one task.
    """
    return 0.0 if times == 1 else min(FIRST_LINGER_S * times**2, LINGER_S)


class Rounds:
    """The jobs that are to be looked at. A look that takes long holds up no other job.

    Arguments:
        jobs: the ids of all that may be.
        look: looks at one, and answers after how many seconds it is to be looked at again, whether it has changed or
            not; None: once it has. Never called for one that it is still looking at.
    """

    def __init__(self, jobs: Collection[str], look: Callable[[str], Coroutine[None, None, float | None]]) -> None:
        self._jobs = jobs
        self._look = look
        self._marked: set[str] = set()
        self._some = asyncio.Event()
        # Those that are being looked at, and those of them that have changed since that began.
        self._looked_at: set[str] = set()
        self._again: set[str] = set()
        # Those that are to be looked at again after a time.
        self._later: dict[str, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        counts = {"jobs": self._jobs, "marked": self._marked, "looked_at": self._looked_at, "later": self._later}
        return f"Rounds({', '.join(f'{name}={len(some)}' for name, some in counts.items())})"

    def mark(self, job_id: str) -> None:
        """Have a job looked at soon, if it is one of them."""
        if job_id in self._looked_at:
            self._again.add(job_id)
        elif job_id in self._jobs:
            self._marked.add(job_id)
            self._some.set()

    async def run(self) -> None:
        """Look at what is marked, and now and then at all of them, until cancelled."""
        try:
            await self._run()
        finally:
            for timer in self._later.values():
                timer.cancel()
            self._later.clear()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        look_at = loop.time() + LOOK_EVERY_S
        async with asyncio.TaskGroup() as looks:
            while True:
                try:
                    async with asyncio.timeout_at(look_at):
                        await self._some.wait()
                except TimeoutError:
                    for job_id in tuple(self._jobs):
                        self.mark(job_id)
                    look_at = loop.time() + LOOK_EVERY_S
                self._some.clear()
                linger = FIRST_LINGER_S
                while self._marked:
                    batch = [self._marked.pop() for _ in range(min(READ_AT_ONCE, len(self._marked)))]
                    await asyncio.wait([self._begin(job_id, looks) for job_id in batch], timeout=PATIENCE_S)
                    await asyncio.sleep(linger)
                    linger = min(2 * linger, LINGER_S)

    def _begin(self, job_id: str, looks: asyncio.TaskGroup) -> asyncio.Task[float | None]:
        self._looked_at.add(job_id)
        if job_id in self._later:
            self._later.pop(job_id).cancel()
        look = looks.create_task(self._look(job_id), name="look")
        look.add_done_callback(partial(self._end, job_id))
        return look

    def _end(self, job_id: str, look: asyncio.Task[float | None]) -> None:
        self._looked_at.discard(job_id)
        if job_id in self._again:
            self._again.discard(job_id)
            self.mark(job_id)
        elif not look.cancelled() and look.exception() is None and (after := look.result()) is not None:
            self._later[job_id] = asyncio.get_running_loop().call_later(after, self._due, job_id)

    def _due(self, job_id: str) -> None:
        del self._later[job_id]
        self.mark(job_id)
