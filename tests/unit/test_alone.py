"""What is done of one task at a time: each has its turn, however many come, and nothing is left of it."""

from __future__ import annotations

import asyncio

from holon.uplink.alone import Alone


async def test_one_at_a_time_of_each_name_and_all_of_them_in_the_end() -> None:
    alone, inside, most, done = Alone(), 0, 0, 0

    async def one(name: str) -> None:
        nonlocal inside, most, done
        await alone.take(name)
        try:
            inside += name == "a"
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= name == "a"
            done += 1
        finally:
            alone.leave(name)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name in "aaabaaab":
            group.create_task(one(name))
    assert (most, done, repr(alone)) == (1, 8, "Alone(0)")


async def test_another_name_does_not_wait() -> None:
    alone = Alone()
    async with asyncio.timeout(10):
        await alone.take("a")
        await alone.take("b")
    assert repr(alone) == "Alone(2)"


async def test_who_gives_up_waiting_takes_nobody_his_turn() -> None:
    alone, order = Alone(), list[str]()

    async def one(name: str) -> None:
        await alone.take("a")
        order.append(name)
        alone.leave("a")

    await alone.take("a")
    first, second = asyncio.create_task(one("first")), asyncio.create_task(one("second"))
    await asyncio.sleep(0)
    first.cancel()
    # It is cancelled as it is woken.
    alone.leave("a")
    async with asyncio.timeout(10):
        await asyncio.wait((first, second))
    assert (first.cancelled(), order, repr(alone)) == (True, ["second"], "Alone(0)")
