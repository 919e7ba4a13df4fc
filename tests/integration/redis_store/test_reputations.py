"""Nodes on one Redis tell each other when the reputation of a worker has moved."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.domain.matching import ANY_CONTRACT, Offering
from holon.domain.reputation import Rules
from holon.domain.task import Outcome
from holon.engine import reputations
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.reputations import Reputations
from holon.engine.session import Session
from holon.telemetry.events import Telemetry
from tests.contract.world import T, World
from tests.integration.redis_store.nodes import GUARD, Nodes

BAD = ("t", Outcome.failed("PERMANENT_ERROR", ""), False)
NOTHING: Any = None


async def test_a_worker_that_falls_at_one_node_gets_nothing_at_the_other(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reputations, "PAUSE_S", 0.001)
    worlds = [await nodes.add("a"), await nodes.add("b")]
    (here, first, _), (there, second, dispatcher) = [follows(world) for world in worlds]
    loops = [asyncio.create_task(one.run()) for one in (first, second)]
    try:
        first.judged(here, [BAD] * 8)
        second.judged(there, [BAD] * 8)
        async with asyncio.timeout(GUARD):
            while not (there.distrusted and here.distrusted):  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.001)
        assert [one.of("w", "t").value for one in (first, second)] == pytest.approx([0.2, 0.2], abs=1e-4)
        assert not dispatcher.can_do(T)
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)


def follows(world: World) -> tuple[Session, Reputations, Dispatcher]:
    """A session of the worker at a node, with what the node knows of reputations."""
    dispatcher = Dispatcher(NOTHING, Telemetry())
    fleet = Fleet(dispatcher, world.storage.now)
    known = Reputations(world.storage, dispatcher, fleet, world.storage.now, Rules(threshold=0.3))
    world.storage.hear(lambda hint: known.hints.changed(hint.documents))
    session = Session("w", f"at {id(world)}", 1, {Offering("t"): ANY_CONTRACT}, NOTHING)
    dispatcher.add(session)
    return session, known, dispatcher
