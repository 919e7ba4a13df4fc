"""What of a session needs the store: who tells of events without end keeps no result back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from holon.domain.events import Occurred
from holon.domain.task import Outcome
from holon.engine.results import Answer, Reported
from holon.errors import HolonError
from holon.transports.grpc.clerk import Clerk

MANY = 50


class Workers:
    """Takes what it is told; while it is told of one event, another comes."""

    def __init__(self) -> None:
        self.clerk: Clerk
        self.done: list[str] = []

    async def occurred(self, _: Any, events: Sequence[Occurred]) -> Mapping[str, HolonError | None]:
        self.done += [one.event_id for one in events]
        await asyncio.sleep(0)
        if len(self.done) < MANY:
            self.clerk.event(event(f"e{len(self.done)}"))
        return {one.event_id: None for one in events}

    async def complete(self, _: Any, reported: Sequence[Reported]) -> Sequence[Answer]:
        self.done += [one.task_id for one in reported]
        return [Answer(one.task_id, one.lease_id) for one in reported]


class Outgoing:
    def answer(self, answers: Sequence[Answer]) -> None: ...

    def took_events(self, refused: Mapping[str, HolonError | None]) -> None: ...


def event(event_id: str) -> Occurred:
    return Occurred("t", "l", event_id, "seen", b"", 0, (), (), "")


async def test_a_result_waits_for_the_events_that_came_before_it_and_for_no_others() -> None:
    workers, outgoing, member = Workers(), Outgoing(), None
    made: Any = Clerk
    clerk: Clerk = made(workers, member, outgoing)
    workers.clerk = clerk
    clerk.event(event("first"))
    clerk.report(Reported("result", "l", Outcome("success")))
    clerk.close()
    async with asyncio.timeout(60):
        await clerk.run()
    assert workers.done[:2] == ["first", "result"]
    assert len(workers.done) == MANY
