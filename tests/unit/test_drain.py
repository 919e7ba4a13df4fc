"""A node that drains: it takes no new work, and what was said to it is in the store when it ends."""

from __future__ import annotations

from pathlib import Path

from holon import Blueprint
from holon.context import ActionFactory
from holon.domain.client import Client
from holon.engine.core import Engine, EngineSettings
from holon.engine.requests import Creating
from holon.wire.trees import read_summary
from tests.contract.backends import Memory
from tests.contract.world import World

echo = Blueprint("echo", api_endpoint="/jobs/echo")


@echo.handler(is_start=True)
async def begin(actions: ActionFactory) -> None:
    """One task."""
    actions.dispatch_task("work", {}, {"success": "done"})


@echo.handler("done", is_end=True)
async def done() -> None:
    """The end."""


async def test_i10_a_job_that_comes_to_a_draining_node_is_left_to_others(tmp_path: Path) -> None:
    world = World(Memory(), tmp_path, {})
    await world.open()
    engine = Engine(world.storage, world.settings, EngineSettings(), read_told=read_summary)
    engine.blueprints.register_all([echo])
    await engine.drain()
    accepted = await engine.jobs.create(Client("ann"), Creating("echo", {}))
    assert engine.executor.running == 0
    assert await world.ready() == [accepted.job_id]
    await world.close()


async def test_what_a_worker_gave_back_last_waits_for_others_once_a_node_has_drained(tmp_path: Path) -> None:
    world = World(Memory(), tmp_path, {})
    await world.open()
    engine = Engine(world.storage, world.settings, EngineSettings(), read_told=read_summary)
    hand = await world.hand()
    engine.touches.hand_back(hand.ref(await world.offered(hand)), again_after=0)
    assert await world.waiting() == 0
    await engine.drain()
    assert await world.waiting() == 1
    await world.close()
