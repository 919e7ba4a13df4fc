"""A child holon in this process, which serves a parent that does only what its test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import orjson

from holon.clock import SystemClock
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Catalog, Machine, Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.task import Outcome
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.engine.members import Joining
from holon.engine.results import Reported
from holon.ports import JobFilter, JobRecord, Offer, Stop, StoreSettings
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import Uplink, UplinkSettings, owner_of
from holon.uplink.settings import parent_urls
from holon.wire.trees import read_summary
from holon.worker.settings import Credentials
from holon.worker.timing import Timing
from tests.integration.scripted_node import FAST, GUARD, Certificates, ScriptedNode, Stream

PARENT = "the-parent"
STORE = StoreSettings("n1")


@dataclass
class Child:
    """The child, and its parent's end of the link."""

    parent: ScriptedNode
    engine: Engine
    store: MemoryStorage
    holarchy: Holarchy
    uplink: Uplink

    async def linked(self, **terms: Any) -> Stream:
        """The next stream, welcomed by the parent."""
        return await welcomed(self.parent, **terms)

    async def jobs(self) -> Sequence[JobRecord]:
        """The parent's jobs here."""
        return (await self.store.jobs(JobFilter(owner_of(PARENT).name), 1_000))[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD):
            while not condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
                await asyncio.sleep(0.001)


class Leaf:
    """A worker of the child's, without a wire: what it is given waits in `offers`. It may be a holon itself."""

    def __init__(
        self,
        engine: Engine,
        worker_id: str,
        *skills: Skill,
        credits: int = 10,  # noqa: A002  # the protocol's word
        holon: HolonIdentity | None = None,
        machines: Sequence[Machine] = (),
    ) -> None:
        self.offers: asyncio.Queue[Offer] = asyncio.Queue()
        self.stops: asyncio.Queue[Stop] = asyncio.Queue()
        self._engine = engine
        self._joining = Joining(worker_id, credits, Catalog(skills, tuple(machines)), holon=holon)

    async def __aenter__(self) -> Self:
        self.member = await self._engine.workers.join(self._joining, self)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.workers.leave(self.member)

    def offer(self, offers: Sequence[Offer]) -> None:
        for one in offers:
            self.offers.put_nowait(one)

    def stop(self, stops: Sequence[Stop]) -> None:
        for one in stops:
            self.stops.put_nowait(one)

    def go_away(self, reason: str, message: str, time_left: int) -> None: ...

    async def given(self) -> Offer:
        """The next task, accepted."""
        async with asyncio.timeout(GUARD):
            offer = await self.offers.get()
        assert self._engine.workers.accepted(self.member, offer.task_id, offer.lease_id)
        return offer

    async def says(self, offer: Offer, percent: float) -> None:
        """A task is so far, and the node stores that now."""
        assert self._engine.workers.progress(self.member, offer.task_id, offer.lease_id, percent, None)
        await self._engine.touches.flush()

    async def ends(self, offer: Offer, outcome: Outcome, *, cost: int | None = None) -> None:
        """A task ends so."""
        reported = Reported(offer.task_id, offer.lease_id, outcome, cost=cost)
        await self._engine.workers.complete(self.member, [reported])


async def welcomed(parent: ScriptedNode, **terms: Any) -> Stream:
    """The next stream of a child, welcomed."""
    terms = {"holon_id": PARENT, "capabilities": [types_pb2.CAPABILITY_HOLON], **terms}
    return await parent.welcomed(**terms)


async def offered(stream: Stream, task_id: str, skill: str, params: Any = None, **more: Any) -> None:
    """Offer a task as a parent does."""
    more = {"lease_id": f"{task_id}-lease", "generation": 1, "attempt": 1, **more}
    offer = worker_pb2.TaskOffer(task_id=task_id, skill=skill, **more)
    if params is not None:
        offer.params.data = orjson.dumps(params)
    await stream.send(task_offers=worker_pb2.TaskOffers(offers=[offer]))


async def answer(stream: Stream, *, passing: Sequence[str] = ("progress",)) -> worker_pb2.TaskUpdate:
    """The next update that is not only progress."""
    while (update := await stream.update()).WhichOneof("update") in passing:
        pass
    return update


@asynccontextmanager
async def a_child(
    certificates: Certificates,
    blueprints: Sequence[Blueprint],
    *,
    store: MemoryStorage | None = None,
    parent: ScriptedNode | None = None,
    of_engine: EngineSettings | None = None,
    timing: Timing = FAST,
    **settings: Any,
) -> AsyncIterator[Child]:
    """The child, running; its parent too, unless that is given."""
    async with (
        ScriptedNode(certificates) if parent is None else nullcontext(parent) as node,
        MemoryStorage(STORE, SystemClock()) if store is None else nullcontext(store) as kept,
    ):
        engine = Engine(kept, STORE, of_engine or EngineSettings(), read_told=read_summary)
        engine.blueprints.register_all(blueprints)
        holarchy = Holarchy(kept, "the-child", 8)
        await holarchy.recall()
        own = Credentials("", certificates.ca, certificates.worker.certificate, certificates.worker.key)
        link = UplinkSettings(parent_urls(node.url), own, "n1", timing=timing, **settings)
        uplink = Uplink(engine, holarchy, link)
        running = [asyncio.create_task(part.run()) for part in (engine, uplink)]
        try:
            yield Child(node, engine, kept, holarchy, uplink)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
