"""The state machine of a session: whatever a worker says, and in whatever order, others work on and no job is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from holon.engine.requests import Creating
from holon.errors import FailedPrecondition, NotFound
from holon.rxon.v1 import types_pb2
from tests.fuzz.choices import ENTROPY, EXAMPLES, Choices
from tests.fuzz.worker import HostileWorker
from tests.fuzz.world import BAIT, ME, World, a_world


class History:
    """What the examples before this one left behind."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.offers: list[types_pb2.LeaseRef] = []


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_any_sequence_of_messages_disturbs_nobody_and_loses_no_job(storage: str, tmp_path: Path) -> None:
    history = History()
    # Only in a file do calls of the store take time, in which others come in between.
    with a_world(tmp_path / "store.db" if storage == "sqlite" else None) as world:

        @settings(EXAMPLES, max_examples=EXAMPLES.max_examples if storage == "memory" else 500)
        @given(ENTROPY)
        def any_sequence(entropy: bytes) -> None:
            world.run(example(world, Choices(entropy), history))

        any_sequence()


async def example(world: World, choices: Choices, history: History) -> None:
    for _ in range(choices.below(4)):
        await bait(world, choices, history)
    workers: list[HostileWorker] = []
    join(world, choices, history, workers)
    for _ in range(choices.below(20)):
        if choices.one_in(12):
            join(world, choices, history, workers)
        if choices.one_in(10):
            await bait(world, choices, history)
        if choices.one_in(10) and history.jobs:
            await cancel(world, history.jobs.pop(choices.below(len(history.jobs))))
        await choices.of(workers).act()
    await world.check_books()
    for worker in workers:
        await worker.end()
    await world.good_job()
    world.check()
    del history.offers[:-200]
    for job_id in history.jobs[:-20]:
        await cancel(world, job_id)
    del history.jobs[:-20]


def join(world: World, choices: Choices, history: History, workers: list[HostileWorker]) -> None:
    """Another stream, of another worker or the same one."""
    workers.append(HostileWorker(world, choices, f"evil-{choices.below(3)}", history.offers))
    workers[-1].hello()


async def bait(world: World, choices: Choices, history: History) -> None:
    """A job that a hostile worker may get."""
    data: dict[str, Any] = {"n": choices.byte(), "skill": choices.of(BAIT)}
    if choices.one_in(3):
        del data["n"]
    creating = asyncio.create_task(world.engine.jobs.create(ME, Creating("bait", data)))
    if choices.one_in(4):
        await world.turns(choices.below(6))
        creating.cancel()
    await asyncio.wait([creating])
    if not creating.cancelled():
        history.jobs.append(creating.result().job_id)


async def cancel(world: World, job_id: str) -> None:
    with suppress(FailedPrecondition, NotFound):
        await world.engine.jobs.cancel(ME, job_id)
