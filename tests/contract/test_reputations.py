"""Reputations: what several nodes add at once adds up in every store, and outlives all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.domain.reputation import Rules
from holon.domain.task import Outcome
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.reputations import Reputations
from holon.engine.session import Session
from holon.telemetry.events import Telemetry
from tests.contract.world import Factory, World

BAD = ("t", Outcome.failed("PERMANENT_ERROR", ""), False)
NOTHING: Any = None


def node(world: World) -> Reputations:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    fleet = Fleet(dispatcher, world.storage.now)
    return Reputations(world.storage, dispatcher, fleet, world.storage.now, Rules())


def fails(node: Reputations, worker_id: str, times: int) -> None:
    node.judged(Session(worker_id, "s", 1, {}, NOTHING), [BAD] * times)


async def test_what_several_nodes_add_at_once_adds_up(world: World) -> None:
    nodes = [node(world) for _ in range(4)]
    for one in nodes:
        fails(one, "w1", 2)
        fails(one, "w2", 1)
    await asyncio.gather(*(one.drain() for one in nodes))
    later = node(world)
    await later.recall()
    assert [later.of(name, "t").value for name in ("w1", "w2", "w3")] == [pytest.approx(0.6), pytest.approx(0.8), 1.0]


async def test_a_reputation_outlives_its_nodes(durable: Factory) -> None:
    world = await durable()
    before = node(world)
    fails(before, "w1", 20)
    await before.drain()
    await world.restart()
    after = node(world)
    await after.recall()
    assert after.of("w1", "t").value == pytest.approx(0.0, abs=0.001)
