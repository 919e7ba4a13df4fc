"""Rate windows: however many callers there are, so many are kept. One that is full is not asked again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holon.clock import ManualClock
from holon.ports import Count, Counted
from holon.storage import windows
from holon.storage.windows import DrawnWindows, Windows
from holon.stores.memory import MemoryRows
from holon.stores.port import Draw, Drawn


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_KEYS", 100)


def test_windows_that_are_over_make_room() -> None:
    counting = Windows()
    for n in range(99):
        counting.count(Count(f"old-{n}", 1, 1, 1_000), 0)
    assert counting.count(Count("kept", 1, 1, 60_000), 0).granted
    for n in range(40):
        counting.count(Count(f"new-{n}", 1, 1, 1_000), 1_000 + n)
    assert repr(counting) == "Windows(keys=41)"
    assert not counting.count(Count("kept", 1, 1, 60_000), 2_000).granted


def test_more_callers_than_are_kept_are_counted_as_long_as_there_is_room() -> None:
    counting = Windows()
    for n in range(1_000):
        assert counting.count(Count(f"client-{n}", 1, 1, 60_000), 0).granted
        assert not counting.count(Count(f"client-{n}", 1, 1, 60_000), 0).granted
    assert int(repr(counting).removeprefix("Windows(keys=").removesuffix(")")) <= 100


class Shared:
    """Windows that nodes share, and what was drawn for them."""

    def __init__(self) -> None:
        self.clock = ManualClock(60_000)
        self.rows = MemoryRows(1, self.clock)
        self.draws: list[int] = []

    def node(self) -> DrawnWindows:
        return DrawnWindows(self._draw)

    async def _draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        if draws:
            self.draws.append(len(draws))
        return await self.rows.draw(draws)


async def test_a_window_that_is_full_is_not_drawn_on_until_it_ends() -> None:
    shared = Shared()
    one, two, now = shared.node(), shared.node(), shared.clock.now_ms
    item = Count("ann", 2, 3, 60_000)
    assert await one.count([item], now) == [Counted(True, 1, 60_000)]
    assert await two.count([item, item], now) == [Counted(False, 1, 60_000)] * 2
    shared.clock.advance(20_000)
    assert await two.count([item], now) == [Counted(False, 1, 40_000)]
    assert shared.draws == [1, 2]
    # What may fit is drawn, and all others with it.
    small, other = Count("ann", 1, 3, 60_000), Count("bob", 1, 1, 60_000)
    answers = [Counted(False, 1, 40_000), Counted(True, 0, 40_000), Counted(True, 0, 40_000)]
    assert await two.count([item, small, other], now) == answers
    assert shared.draws == [1, 2, 2]
    shared.clock.advance(40_000)
    assert await two.count([item], now) == [Counted(True, 1, 60_000)]
    assert shared.draws == [1, 2, 2, 1]


async def test_of_full_windows_too_so_many_are_kept() -> None:
    shared = Shared()
    node = shared.node()
    for n in range(250):
        assert not (await node.count([Count(f"client-{n}", 1, 0, 60_000)], shared.clock.now_ms))[0].granted
    assert int(repr(node).removeprefix("DrawnWindows(full=").removesuffix(")")) <= 100
