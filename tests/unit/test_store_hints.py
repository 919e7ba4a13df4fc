"""Hints of a store: what was not picked up yet takes up the next."""

from __future__ import annotations

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
