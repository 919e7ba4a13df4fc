"""The worker SDK: the heartbeats of one stream: now and then, and at once when there is something to say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from holon.rxon.v1 import worker_pb2
from holon.worker.leases import Lease

# Until the node says how often.
EVERY_S = 10.0


class Heartbeats:
    """Says that the worker lives, and how much it takes.

    Arguments:
        put: sends one; False: nothing is sent any more.
        alive: the leases that one is to extend; None: all that were accepted.
        load: how busy the machine is; None: nothing is told of it.

    Attributes:
        every: how many seconds lie between two of them, about.
        credits: how many tasks may be held in all, said with each; None leaves it.
    """

    def __init__(
        self,
        put: Callable[[worker_pb2.SessionRequest], bool],
        alive: Callable[[], Sequence[Lease] | None],
        load: Callable[[], worker_pb2.WorkerLoad | None],
    ) -> None:
        self.every = EVERY_S
        self.credits: int | None = None
        self._put = put
        self._alive = alive
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._sequence = 0
        self._next: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Heartbeats(sequence={self._sequence}, credits={self.credits})"

    def say(self, offering_credits: Sequence[worker_pb2.OfferingCredits] = ()) -> None:
        """Say one now; the next follows after a while."""
        self.stop()
        frame = worker_pb2.SessionRequest(
            heartbeat=worker_pb2.Heartbeat(
                sequence=self._sequence + 1,
                credits=self.credits,
                offering_credits=offering_credits,
                load=self._load(),
            )
        )
        if (alive := self._alive()) is not None:
            held = frame.heartbeat.held
            held.no_leases = not alive
            for lease in alive:
                held.leases.add(task_id=lease.task_id, lease_id=lease.lease_id)
        if self._put(frame):
            self._sequence += 1
            wait = self.every * random.uniform(0.9, 1.1)  # noqa: S311  # no secret: it spreads a fleet
            self._next = self._loop.call_later(wait, self.say)

    def stop(self) -> None:
        """Say no more by itself."""
        if self._next:
            self._next.cancel()
