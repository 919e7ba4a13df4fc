"""Whatever a parent does that keeps to the protocol, and the store: each task is done once, and nothing is left of it.

`HOLON_UPLINK_RUNS` says how many runs there are, `HOLON_UPLINK_SEED` the seed of the first.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from holon.clock import SystemClock
from holon.ports import JobFilter, JobRecord
from holon.storage.memory import MemoryStorage
from holon.uplink import books, owner_of, running, uplink
from holon.uplink.books import KIND
from tests.integration.a_child import PARENT, STORE, Child, a_child
from tests.integration.scripted_node import Certificates, ScriptedNode
from tests.integration.uplink.a_fickle_parent import FickleParent, RandomLeaf, blueprints, wavering

FIRST = int(os.environ.get("HOLON_UPLINK_SEED", "1"))
RUNS = int(os.environ.get("HOLON_UPLINK_RUNS", "4"))
LASTS_S = 0.5
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "GATHER_S", 0.01)
    monkeypatch.setattr(running, "_COMES_BACK_S", 0.03)
    monkeypatch.setattr(uplink, "_PAUSE_S", 0.05)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
async def test_each_task_is_done_once_and_nothing_is_left_of_it(certificates: Certificates, seed: int) -> None:
    chance, failing = random.Random(seed), 0.05 if seed % 2 else 0.0
    async with ScriptedNode(certificates) as node, MemoryStorage(STORE, SystemClock()) as store:
        parent = FickleParent(node, chance, 6)
        beside = [asyncio.create_task(one) for one in (parent.run(), no_task_has_two_jobs(store, parent.wrong))]
        settings: dict[str, Any] = {"store": store, "parent": node, "cleanup": 0.15, "escalate_after": 0.1}
        # The child begins anew at times, and its worker comes late.
        for _ in range(chance.randint(1, 2)):
            async with a_child(certificates, blueprints(), **settings) as child, wavering(store, chance, failing):
                await asyncio.sleep(chance.choice((0.0, 0.3)))
                async with RandomLeaf(child, chance):
                    await asyncio.sleep(LASTS_S)
        async with a_child(certificates, blueprints(), **settings) as child, RandomLeaf(child, chance):
            async with wavering(store, chance, failing):
                await asyncio.sleep(LASTS_S)
            parent.fickle = False
            left = await nothing_is_left(child, parent)
        for one in beside:
            one.cancel()
        await asyncio.wait(beside)
        done = Counter(_origin(one) for one in await jobs(store) if one.job.status != "cancelled")
        wrong = [*parent.wrong, *(f"{origin} was done {times} times" for origin, times in done.items() if times > 1)]
        found = [*wrong, *left]
        assert not found, "\n".join([*found, *parent.log])


async def jobs(store: MemoryStorage) -> Iterable[JobRecord]:
    return (await store.jobs(JobFilter(owner_of(PARENT).name), 1_000))[0]


def _origin(record: JobRecord) -> tuple[str, int]:
    return record.job.initial_data["task"], record.job.initial_data["generation"]


async def no_task_has_two_jobs(store: MemoryStorage, wrong: list[str]) -> None:
    """Look from time to time, until cancelled."""
    while True:
        await asyncio.sleep(0.01)
        live = Counter(_origin(one)[0] for one in await jobs(store) if not one.job.status.terminal)
        wrong += [f"{task} has {number} jobs" for task, number in live.items() if number > 1]


async def nothing_is_left(child: Child, parent: FickleParent) -> list[str]:
    """Wait until that is so; what is left after long enough."""
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while left := parent.waiting or [*await in_the_books(child), *in_memory(child)]:
        if asyncio.get_running_loop().time() > until:
            break
        await asyncio.sleep(0.02)
    return left


async def in_the_books(child: Child) -> Iterator[str]:
    """What there is of tasks that are over, but for those that may come again."""
    documents = await child.store.documents(KIND)
    return iter([f"{one}" for one in documents if one.expires_at is None])


def in_memory(child: Child) -> Iterator[str]:
    """What the child knows of tasks that are over."""
    link, serving = child.uplink._link, child.uplink._serving
    if link is None or serving is None:
        yield "it does not link"
        return
    taking, delegated, noted = serving.taking, serving.jobs, serving.jobs._books
    told, remembered = delegated.telling._told, noted._remembered
    kept = {
        "starting": taking._starting,
        "of a task": taking._of_task,
        "looked at": taking._alone._taken,
        "being made": taking._creating,
        "running": delegated._jobs,
        "told": told,
        "summed up": delegated._summaries._running,
        "held": link.reports.leases.held,
        "unacknowledged": link.reports.leases.kept,
        "written": noted._alone._taken,
        "settled": noted._settled,
        "unsure": noted._unsure,
        "in the books": noted._versions.keys() - remembered.keys(),
        "followed": child.engine.following._jobs,
        "expected": child.engine.following._expected,
    }
    for name, what in kept.items():
        if what:
            yield f"{name}: {what}"
