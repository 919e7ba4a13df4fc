"""Rate windows: exact while they last, aligned to the store's clock, and each key by itself."""

from __future__ import annotations

import asyncio

from holon.ports import Count, Counted
from tests.contract.world import World


async def aligned(world: World, period: int) -> None:
    """Go on to the beginning of a window."""
    world.clock.advance(-world.now % period)


async def test_a_window_takes_its_limit_and_no_more(world: World) -> None:
    await aligned(world, 60_000)
    item = Count("ann", 1, 3, 60_000)
    answers = [(await world.storage.count([item]))[0] for _ in range(4)]
    assert answers == [
        Counted(True, 2, 60_000), Counted(True, 1, 60_000), Counted(True, 0, 60_000), Counted(False, 0, 60_000)
    ]  # fmt: skip


async def test_what_does_not_fit_whole_counts_nothing(world: World) -> None:
    await aligned(world, 60_000)
    assert await world.storage.count([Count("ann", 6, 10, 60_000)]) == [Counted(True, 4, 60_000)]
    assert await world.storage.count([Count("ann", 5, 10, 60_000)]) == [Counted(False, 4, 60_000)]
    assert await world.storage.count([Count("ann", 4, 10, 60_000)]) == [Counted(True, 0, 60_000)]


async def test_what_never_fits_is_refused_in_an_empty_window_too(world: World) -> None:
    [counted] = await world.storage.count([Count("ann", 11, 10, 60_000)])
    assert (counted.granted, counted.remaining) == (False, 10)


async def test_the_next_window_takes_its_limit_again(world: World) -> None:
    await aligned(world, 1_000)
    item = Count("ann", 2, 2, 1_000)
    world.clock.advance(400)
    assert await world.storage.count([item]) == [Counted(True, 0, 600)]
    world.clock.advance(599)
    assert await world.storage.count([item]) == [Counted(False, 0, 1)]
    world.clock.advance(1)
    assert await world.storage.count([item]) == [Counted(True, 0, 1_000)]


async def test_a_steady_caller_at_the_limit_is_never_refused(world: World) -> None:
    item = Count("ann", 1, 10, 1_000)
    for _ in range(55):
        [counted] = await world.storage.count([item])
        assert counted.granted
        world.clock.advance(100)


async def test_keys_do_not_disturb_each_other(world: World) -> None:
    items = [Count("ann", 1, 1, 60_000), Count("bob", 1, 1, 60_000), Count("a:b c\u00e9", 1, 1, 1_000)]
    assert all(one.granted for one in await world.storage.count(items))
    assert not any(one.granted for one in await world.storage.count(items))


async def test_items_of_one_call_are_counted_in_order(world: World) -> None:
    item = Count("ann", 2, 3, 60_000)
    answers = await world.storage.count([item, item, Count("ann", 1, 3, 60_000)])
    assert [(one.granted, one.remaining) for one in answers] == [(True, 1), (False, 1), (True, 0)]


async def test_counting_nothing_looks_and_counts_nothing(world: World) -> None:
    await world.storage.count([Count("ann", 1, 2, 60_000)])
    [counted] = await world.storage.count([Count("ann", 0, 2, 60_000)])
    assert (counted.granted, counted.remaining) == (True, 1)


async def test_many_at_once_are_counted_exactly(world: World) -> None:
    item = Count("ann", 1, 30, 60_000)
    answers = await asyncio.gather(*(world.storage.count([item, item]) for _ in range(25)))
    assert sum(one.granted for pair in answers for one in pair) == 30


async def test_counting_no_items_answers_none(world: World) -> None:
    assert list(await world.storage.count([])) == []
