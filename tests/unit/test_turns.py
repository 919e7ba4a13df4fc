"""Turns: long work lets others run, after so much of it at a time."""

from __future__ import annotations

import asyncio

import pytest

from holon import turns
from holon.turns import CHUNK, Turn, in_chunks, one_by_one


class Others:
    """What others have run meanwhile: one pass of the loop after the other."""

    def __init__(self) -> None:
        self.passes = 0

    async def run(self) -> None:
        while True:
            await self.ran()

    async def ran(self) -> None:
        self.passes += 1
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that turns go by; its only entry is changed by the test."""
    time = [0.0]
    monkeypatch.setattr(turns, "perf_counter", lambda: time[0])
    return time


async def test_a_rest_lasts_as_long_as_the_turn_while_others_have_so_much_to_do(clock: list[float]) -> None:
    others = Others()

    async def work() -> None:
        while True:
            clock[0] += 1.0
            await others.ran()

    working = asyncio.create_task(work())
    turn = Turn()
    clock[0] += 7.0
    assert (turn.over, turn.seconds) == (True, 7.0)
    assert repr(turn) == "Turn(7.000 s)"
    await turn.rest()
    working.cancel()
    assert others.passes == 7
    assert (turn.over, turn.seconds) == (False, 0.0)


async def test_a_rest_ends_once_others_have_nothing_to_do_or_after_a_pass_where_the_turn_is_not_over(
    clock: list[float],
) -> None:
    others = Others()
    running = asyncio.create_task(others.run())
    turn = Turn()
    clock[0] += turns.AT_ONCE_S
    assert not turn.over
    await turn.rest()
    assert others.passes == 1
    clock[0] += 7.0
    await turn.rest()
    running.cancel()
    assert others.passes == 1 + 1 + turns.IDLE_PASSES


async def test_of_many_a_few_are_taken_at_a_time_in_their_order_and_others_run_in_between() -> None:
    others = Others()
    running = asyncio.create_task(others.run())
    taken: list[int] = []
    passes: list[int] = []
    async for some in in_chunks(range(3 * CHUNK + 1)):
        taken += some
        assert len(some) <= CHUNK
        passes.append(others.passes)
    running.cancel()
    assert taken == list(range(3 * CHUNK + 1))
    # It begins at once.
    assert passes[0] == 0
    assert len(set(passes)) == 4


async def test_of_few_all_are_taken_at_once_and_of_none_nothing() -> None:
    others = Others()
    running = asyncio.create_task(others.run())
    assert [list(some) async for some in in_chunks([1, 2])] == [[1, 2]]
    none: list[int] = []
    assert [some async for some in in_chunks(none)] == []
    assert others.passes == 0
    running.cancel()


async def test_what_takes_more_than_a_turn_is_made_one_by_one_in_order_and_others_run_in_between(
    clock: list[float],
) -> None:
    others = Others()
    running = asyncio.create_task(others.run())
    passes: list[int] = []

    def make(number: int) -> int:
        passes.append(others.passes)
        # Two of them are one turn.
        clock[0] += 0.6 * turns.AT_ONCE_S
        return -number

    assert await one_by_one(make, range(5)) == [0, -1, -2, -3, -4]
    running.cancel()
    assert passes[0] == passes[1] == 0 < passes[2] == passes[3] < passes[4]
    with pytest.raises(ZeroDivisionError):
        await one_by_one(lambda one: 1 // one, [1, 0])
