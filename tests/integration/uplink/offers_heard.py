"""What the parent of these tests knows of a child's offerings, and skills that a child may pass on."""

from __future__ import annotations

import asyncio
from typing import Any

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.rxon.v1 import worker_pb2
from holon.transports.grpc.hello import catalog_of
from tests.integration.scripted_node import GUARD, Stream

PHOTO = {"type": "object", "required": ["photo"]}
TEXT = {"type": "object", "required": ["text"]}
OCR = Skill("ocr", "2", "reading", PHOTO, TEXT, "Reads.", ("unsure",), 7)


def blueprints() -> list[Blueprint]:
    """Three, of which two need somebody by name."""
    crawling = Blueprint("crawling")

    @crawling.handler(is_start=True)
    async def crawl(actions: ActionFactory) -> None:
        actions.dispatch_task("crawl", {}, transitions={"success": "count"})

    @crawling.handler
    async def count(actions: ActionFactory) -> None:
        actions.dispatch_task(params={}, task_type="count", transitions={"success": "end"})

    @crawling.handler("end", is_end=True)
    async def crawled() -> None: ...

    counting = Blueprint("counting")

    @counting.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("count", {}, transitions={"success": "end"})

    @counting.handler("end", is_end=True)
    async def counted() -> None: ...

    asking = Blueprint("asking")

    @asking.handler(is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["skill"], {}, transitions={"success": "end"})

    @asking.handler("end", is_end=True)
    async def asked() -> None: ...

    return [crawling, counting, asking]


class Offered:
    """What the parent knows of a child's offerings, by what it was told."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.catalogs = 0
        self.total = stream.hello.credits
        self._take(stream.hello.catalog)

    async def until(self, **wanted: int) -> None:
        """Hear what the child says until this is offered, and nothing else."""
        async with asyncio.timeout(GUARD):
            while self.credits != wanted:
                await self.hear()

    def _take(self, catalog: worker_pb2.Catalog) -> None:
        # A parent of this version takes it.
        catalog_of(catalog)
        self.offerings, self.profiles = list(catalog.offerings), list(catalog.profiles)
        self.credits = {one.skill: one.credits for one in catalog.offerings}

    async def hear(self) -> worker_pb2.SessionRequest:
        """Hear one thing that the child says."""
        async with asyncio.timeout(GUARD):
            said: worker_pb2.SessionRequest = await self._stream._others.get()
        if said.HasField("catalog"):
            self.catalogs += 1
            self._take(said.catalog)
        if said.heartbeat.HasField("credits"):
            self.total = said.heartbeat.credits
        for one in said.heartbeat.offering_credits:
            # A node passes over what is none of the offerings in all three.
            known = {offering.skill: (offering.type, offering.version) for offering in self.offerings}
            assert known[one.skill] == (one.type, one.version)
            self.credits[one.skill] = one.credits
        return said
