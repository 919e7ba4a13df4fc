"""Re-keying: waiting tasks are tried on a contract that comes later, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from holon.domain.matching import Need
from holon.engine import rekeying
from holon.engine.contracts import Contracts
from holon.engine.needs import Needs
from holon.engine.rekeying import Rekeying
from holon.errors import StoreUnavailable

GUARD = 10.0
SCHEMA = {"type": "object"}


class Waiting:
    """A store in which tasks wait, by their ids; what is asked of it is noted, and may fail or be held up."""

    def __init__(self, **tasks: Need) -> None:
        self.tasks = tasks
        self.failures = 0
        self.asked: list[str] = []
        # Called when a page was read, and is on its way.
        self.read: Any = lambda _: None
        # And with how many tasks were given new needs.
        self.moved: Any = lambda _: None

    def _fails(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise StoreUnavailable("away", retry_after=0.001)

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        self._fails()
        return {need.key: (need, 1) for need in self.tasks.values() if need.skill == skill}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[Any]:
        self._fails()
        self.asked.append(key)
        ids = sorted(task for task, need in self.tasks.items() if need.key == key and task > after)
        self.read(key)
        return [SimpleNamespace(id=task, params=b"{}") for task in ids[:limit]]

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        self._fails()
        self.moved(len(moves))
        self.tasks.update(moves)


@asynccontextmanager
async def running(store: Any) -> AsyncIterator[tuple[Needs, Rekeying]]:
    needs = Needs(Contracts())
    loop = Rekeying(needs, store)
    task = asyncio.create_task(loop.run())
    try:
        yield needs, loop
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_all_are_tried(store: Waiting, needs: Needs, count: int) -> None:
    """Wait until there are so many tasks, and none is left to be tried."""
    async with asyncio.timeout(GUARD):
        while len(store.tasks) < count or any(map(needs.untried, store.tasks.values())):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_what_waits_is_tried_on_a_new_contract_however_often_the_store_is_away() -> None:
    store = Waiting(a=Need("t"), b=Need("t"), c=Need("u"))
    async with running(store) as (needs, loop):
        contract, _ = needs.learn("t", SCHEMA)
        store.failures = 5
        loop.skill("t")
        await until_all_are_tried(store, needs, 3)
    assert store.tasks == {**dict.fromkeys("ab", Need("t", contracts=(contract,))), "c": Need("u")}


async def test_others_run_between_two_tasks_whose_params_are_dear_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
    store = Waiting(**{f"t{number}": Need("t") for number in range(50)})
    turns = 0
    read_at: list[int] = []
    store.read = lambda _: read_at.append(turns)
    async with running(store) as (needs, loop):
        needs.learn("t", SCHEMA)
        loop.skill("t")
        async with asyncio.timeout(GUARD):
            while any(map(needs.untried, store.tasks.values())):
                await asyncio.sleep(0)
                turns += 1
    assert turns - read_at[0] >= 50


async def test_who_brings_a_contract_waits_for_what_waits_to_be_tried_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Waiting(**dict.fromkeys("abc", Need("t")))
    async with running(store) as (needs, loop):
        needs.learn("t", SCHEMA)
        monkeypatch.setattr(rekeying, "PATIENCE_S", GUARD)
        loop.skill("t")
        await loop.settled()
        assert not any(map(needs.untried, store.tasks.values()))
        monkeypatch.setattr(rekeying, "PATIENCE_S", 0.01)
        store.failures = 10**9
        loop.skill("t")
        await loop.settled()


@pytest.mark.parametrize("at", range(1, 8))
async def test_a_task_that_comes_back_meanwhile_is_tried_too_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(rekeying, "FEW", 1)
    monkeypatch.setattr(rekeying, "PAGE", 1)
    monkeypatch.setattr(rekeying, "TURN", 2)
    one, other = Need("t"), Need("t", version="2")
    store = Waiting(**dict.fromkeys("bcd", one), **dict.fromkeys("vw", other))
    async with running(store) as (needs, loop):
        needs.learn("t", SCHEMA)

        def read(_: str) -> None:
            if len(store.asked) == at:
                # The page that is on its way does not have it, nor any that follows.
                store.tasks["a"] = one
                loop.waiting([one])

        store.read = read
        loop.skill("t")
        await until_all_are_tried(store, needs, 6)


async def test_needs_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "FEW", 1)
    monkeypatch.setattr(rekeying, "PAGE", 1)
    monkeypatch.setattr(rekeying, "TURN", 2)
    one, other = Need("t"), Need("t", version="2")
    store = Waiting(**dict.fromkeys("abcdef", one), **dict.fromkeys("uvw", other))
    async with running(store) as (needs, loop):
        needs.learn("t", SCHEMA)
        loop.skill("t")
        await until_all_are_tried(store, needs, 9)
    first, many = [one.key, other.key], [one.key, one.key, other.key, other.key]
    assert store.asked[:8] == [*first, *many, *first]


async def test_many_tasks_of_a_need_are_tried_together_so_that_none_overtakes() -> None:
    store = Waiting(**{f"t{number}": Need("t") for number in range(rekeying.PAGE)})
    moved: list[int] = []
    store.moved = moved.append
    async with running(store) as (needs, loop):
        needs.learn("t", SCHEMA)
        loop.skill("t")
        await until_all_are_tried(store, needs, rekeying.PAGE)
    assert moved == [rekeying.PAGE]


async def test_thousands_of_needs_with_a_task_each_are_tried_many_in_a_call() -> None:
    store = Waiting(**{f"t{number}": Need("t", max_cost=number) for number in range(1_000)})
    moved: list[int] = []
    store.moved = moved.append
    async with running(store) as (needs, loop):
        needs.learn("t", SCHEMA)
        loop.skill("t")
        await until_all_are_tried(store, needs, 1_000)
    assert (len(moved), sum(moved)) == (20, 1_000)
