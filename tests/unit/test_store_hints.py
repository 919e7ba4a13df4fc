"""Hints of a store: what was not picked up yet takes up the next."""

from __future__ import annotations

import asyncio

import pytest

from holon.ports import Hint
from holon.storage.hints import Hints


@pytest.mark.parametrize("due", [(100, 5_000), (5_000, 100), (None, 100), (100, None)])
async def test_of_two_timers_that_were_hinted_at_the_earlier_is_told(due: tuple[int | None, int | None]) -> None:
    hints = Hints()
    listener = hints.listen()
    for one in due:
        hints.give(Hint(due=one, ready=True))
    assert (await anext(listener)).due == 100


async def test_a_listener_that_waits_is_told_what_comes_and_what_comes_until_it_looks() -> None:
    hints = Hints()
    listener = hints.listen()

    async def heard() -> Hint:
        return await anext(listener)

    waiting = asyncio.create_task(heard())
    await asyncio.sleep(0)
    hints.give(Hint(ready=True))
    hints.give(Hint(stops=True))
    hint = await waiting
    assert hint.ready
    assert hint.stops


async def test_a_hint_to_a_listener_that_was_cancelled_harms_nobody() -> None:
    hints = Hints()
    gone, other = hints.listen(), hints.listen()

    async def heard() -> Hint:
        return await anext(gone)

    waiting = asyncio.create_task(heard())
    await asyncio.sleep(0)
    waiting.cancel()
    hints.give(Hint(ready=True))
    assert (await anext(other)).ready
    with pytest.raises(asyncio.CancelledError):
        await waiting
