"""What is done of one task at a time: each has its turn, however many come, and nothing is left of it."""

from __future__ import annotations

import asyncio

from holon.uplink.turns import Turns


async def test_one_at_a_time_of_each_name_and_all_of_them_in_the_end() -> None:
    turns, inside, most, done = Turns(), 0, 0, 0

    async def one(name: str) -> None:
        nonlocal inside, most, done
        await turns.take(name)
        try:
            inside += name == "a"
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= name == "a"
            done += 1
        finally:
            turns.leave(name)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name in "aaabaaab":
            group.create_task(one(name))
    assert (most, done, repr(turns)) == (1, 8, "Turns(0)")


async def test_another_name_does_not_wait() -> None:
    turns = Turns()
    async with asyncio.timeout(10):
        await turns.take("a")
        await turns.take("b")
    assert repr(turns) == "Turns(2)"


async def test_who_gives_up_waiting_takes_nobody_his_turn() -> None:
    turns, order = Turns(), list[str]()

    async def one(name: str) -> None:
        await turns.take("a")
        order.append(name)
        turns.leave("a")

    await turns.take("a")
    first, second = asyncio.create_task(one("first")), asyncio.create_task(one("second"))
    await asyncio.sleep(0)
    first.cancel()
    # It is cancelled as it is woken.
    turns.leave("a")
    async with asyncio.timeout(10):
        await asyncio.wait((first, second))
    assert (first.cancelled(), order, repr(turns)) == (True, ["second"], "Turns(0)")
