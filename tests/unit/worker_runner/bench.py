"""A runner of handlers, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson

from holon.rxon.v1 import worker_pb2
from holon.wire.address import NodeUrl
from holon.worker.leases import Lease
from holon.worker.link import Link
from holon.worker.runner import Runner
from holon.worker.session import Session
from holon.worker.settings import Credentials
from holon.worker.skill import skill_of
from holon.worker.timing import Timing
from holon.worker.tracing import Tracing

TIMING = Timing(accept_after=0.005, stop_patience=0.01, progress_every=0.005)


class Updates:
    """Stands for a session: keeps what is told."""

    max_payload_bytes = 10_000

    def __init__(self) -> None:
        self.all: list[worker_pb2.TaskUpdate] = []
        self.credits: list[int] = []
        self.changed = asyncio.Semaphore(0)
        self._news: asyncio.Queue[worker_pb2.TaskUpdate] = asyncio.Queue()

    def put(self, encoded: bytes) -> None:
        update = worker_pb2.TaskUpdate.FromString(encoded)
        self.all.append(update)
        self._news.put_nowait(update)

    def set_credits(self, number: int, by_skill: Mapping[str, int]) -> None:
        self.credits.append(number)
        self.changed.release()

    async def next(self) -> worker_pb2.TaskUpdate:
        async with asyncio.timeout(5):
            return await self._news.get()

    async def final(self) -> worker_pb2.TaskUpdate:
        """The next final word."""
        while (update := await self.next()).WhichOneof("update") not in ("result", "rejected"):
            pass
        return update


class Bench:
    """A runner with its link, which is never connected; what it tells goes to `updates`."""

    def __init__(
        self,
        *handlers: Callable[..., Any],
        slots: int = 2,
        statuses: tuple[str, ...] = (),
        price: int | None = None,
        timing: Timing = TIMING,
        closing: bool = False,
    ) -> None:
        self.updates = Updates()
        self.link = Link([NodeUrl("localhost", 1, secure=True)], Credentials(), worker_pb2.Hello(), slots, timing)
        self.link.reports.session = cast("Session", self.updates)
        skills = [skill_of(handler, statuses=statuses, price=price) for handler in handlers]
        # Async handlers share this loop: the runner does not care which it is.
        given = self.link, skills, slots, asyncio.get_running_loop(), timing, Tracing(), lambda: closing
        self.runner = Runner(*given)

    def offer(self, skill: str, params: Any = None, task_id: str = "t1", **more: Any) -> Lease:
        lease = Lease(task_id, f"{task_id}-lease")
        offer = worker_pb2.TaskOffer(
            task_id=task_id, lease_id=lease.lease_id, job_id="j1", attempt=2, skill=skill, **more
        )
        if params is not None:
            offer.params.data = params if isinstance(params, bytes) else orjson.dumps(params)
        self.link.reports.leases.take(lease)
        self.runner.offered(lease, offer)
        return lease

    async def result(self, skill: str, params: Any = None, **more: Any) -> worker_pb2.TaskResult:
        self.offer(skill, params, **more)
        return (await self.updates.final()).result


Make = Callable[..., Bench]
