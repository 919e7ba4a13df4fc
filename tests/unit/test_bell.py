"""A bell: heard once, by one, and not lost."""

from __future__ import annotations

import asyncio

import pytest

from holon.wire.bell import Bell


async def turns(n: int = 4) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_it_wakes_who_waits_and_who_comes_later_once() -> None:
    bell = Bell()
    hearing = asyncio.create_task(bell.heard(gathers=False))
    await turns()
    assert not hearing.done()
    bell.ring()
    bell.ring()
    await hearing
    again = asyncio.create_task(bell.heard(gathers=False))
    await turns()
    assert not again.done()
    bell.ring()
    await again
    bell.ring()
    await bell.heard(gathers=False)


async def test_what_rings_as_the_hearing_is_cancelled_is_heard_by_the_next() -> None:
    bell = Bell()
    hearing = asyncio.create_task(bell.heard(gathers=False))
    await turns()
    bell.ring()
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    async with asyncio.timeout(10):
        await bell.heard(gathers=False)
    unheard = asyncio.create_task(bell.heard(gathers=False))
    await turns()
    unheard.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unheard
    bell.ring()
    async with asyncio.timeout(10):
        await bell.heard(gathers=False)


async def test_who_gathers_finds_all_that_the_turn_after_it_was_rung_brings() -> None:
    bell = Bell()
    brought: list[str] = []

    def bring() -> None:
        brought.append("second")
        bell.ring()

    async def hear() -> list[str]:
        await bell.heard(gathers=True)
        return list(brought)

    hearing = asyncio.create_task(hear())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(bring)
    brought.append("first")
    bell.ring()
    assert await hearing == ["first", "second"]


async def test_who_does_not_gather_hears_it_one_turn_after() -> None:
    bell = Bell()
    order: list[str] = []

    async def hear() -> None:
        await bell.heard(gathers=False)
        order.append("heard")

    hearing = asyncio.create_task(hear())
    await asyncio.sleep(0)
    bell.ring()
    asyncio.get_running_loop().call_soon(order.append, "a turn later")
    await turns()
    assert order == ["heard", "a turn later"]
    await hearing


async def test_who_lets_a_turn_pass_comes_after_who_was_woken_before() -> None:
    bell = Bell()
    order: list[str] = []

    async def hear() -> None:
        await bell.heard(gathers=False)
        order.append("woken")

    hearing = asyncio.create_task(hear())
    await asyncio.sleep(0)
    bell.ring()
    await asyncio.sleep(0)
    order.append("let pass")
    await hearing
    assert order == ["woken", "let pass"]
