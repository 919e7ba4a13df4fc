"""Rate windows in memory: however many callers there are, so many are kept."""

from __future__ import annotations

import pytest

from holon.ports import Count
from holon.storage import windows
from holon.storage.windows import Windows


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
