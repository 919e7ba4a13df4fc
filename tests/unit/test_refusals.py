"""Refusals: when a task fails whose params everybody refuses, told by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy
from holon.engine import refusals
from holon.engine.refusals import PATIENCE_MS, Refusals
from holon.errors import Violation
from holon.ports import TaskRecord

NEED = Need("t", refused=("a", "b"))
A, AB = frozenset({"a"}), frozenset({"a", "b"})


class Everything:
    """Who refuses what, what waits, and what was ended."""

    def __init__(self) -> None:
        self.now = 0
        self.contracts = AB
        self.tasks: list[str] = ["t1"]
        self.waiting = True
        self.ended: list[str] = []
        self.waits: Callable[[], None] = lambda: None
        self.refusals = Refusals(self, self, self, lambda: self.now)  # type: ignore[arg-type]

    # As the dispatcher.

    def refused(self) -> Mapping[Need, frozenset[str]]:
        return {NEED: self.contracts} if self.contracts and self.waiting else {}

    def refused_by(self, _: Need) -> frozenset[str]:
        return self.contracts

    def waits_no_more(self, _: str) -> None:
        self.waiting = False

    async def wait_for(self, _: Collection[str]) -> None:
        self.waiting = True

    # As the needs.

    def misfit(self, _: Need, __: bytes) -> Violation:
        return Violation("params.q", "is refused")

    # As the store.

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        retry = RetryPolicy()
        found = [TaskRecord(one, "j", "queued", NEED, "", "", 1, 0, retry, b"{}") for one in sorted(self.tasks)]
        return [one for one in found if one.id > after][:limit]

    async def end_queued(self, key: str, ends: Sequence[tuple[str, Outcome]]) -> None:
        assert key == NEED.key
        for task, outcome in ends:
            assert outcome.error is not None
            assert outcome.error.code == "INVALID_INPUT_ERROR"
            self.tasks.remove(task)
            self.ended.append(task)

    async def after(self, ms: int) -> list[str]:
        """Let so much time pass; what was ended since then."""
        self.now += ms
        before = len(self.ended)
        await self.refusals._look()
        return self.ended[before:]


async def test_a_task_fails_once_it_was_refused_for_so_long_and_not_before() -> None:
    all_ = Everything()
    assert await all_.after(60_000) == []
    assert await all_.after(PATIENCE_MS - 1) == []
    assert await all_.after(1) == ["t1"]
    assert not all_.waiting


async def test_each_task_has_all_of_that_time() -> None:
    all_ = Everything()
    assert await all_.after(0) == []
    assert await all_.after(PATIENCE_MS - 1) == []
    all_.tasks.append("t0")
    assert await all_.after(1) == ["t1"]
    assert await all_.after(PATIENCE_MS - 1) == []
    assert await all_.after(1) == ["t0"]


@pytest.mark.parametrize("change", [A, frozenset({"a", "b", "c"}), frozenset[str]()])
async def test_other_contracts_begin_the_time_anew(change: Any) -> None:
    all_ = Everything()
    assert await all_.after(0) == []
    assert await all_.after(PATIENCE_MS - 1) == []
    all_.contracts = change
    assert await all_.after(1) == []
    all_.contracts = AB
    assert await all_.after(0) == []
    assert await all_.after(PATIENCE_MS - 1) == []
    assert await all_.after(1) == ["t1"]


async def test_who_comes_while_it_is_told_what_is_wrong_saves_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    all_ = Everything()
    assert await all_.after(0) == []

    def comes(_: Need, __: bytes) -> Violation:
        all_.contracts = A
        return Violation("params", "is refused")

    monkeypatch.setattr(all_, "misfit", comes)
    assert await all_.after(PATIENCE_MS) == []
    assert all_.tasks == ["t1"]


async def test_many_are_failed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "PAGE", 2)
    all_ = Everything()
    all_.tasks = [f"t{n}" for n in range(5)]
    assert await all_.after(0) == []
    assert await all_.after(PATIENCE_MS) == ["t0", "t1", "t2", "t3", "t4"]
