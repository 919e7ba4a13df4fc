"""Rounds of looks at jobs: one that takes long holds up no other, and none outlives the rounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holon.engine import rounds as engine_rounds
from holon.engine.rounds import READ_AT_ONCE, Rounds

GUARD = 10.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long does so sooner."""
    monkeypatch.setattr(engine_rounds, "PATIENCE_S", 0.001)


class Looks:
    """What is looked at: a job whose name begins with "slow" for as long as the test wants."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.cancelled = 0
        self.after: float | None = None
        self.looked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def look(self, job_id: str) -> float | None:
        self.begun[job_id] += 1
        if job_id == "broken":
            raise RuntimeError("broken")
        if job_id.startswith("slow"):
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        self.looked.set()
        return self.after


async def test_those_that_take_long_hold_up_no_other_and_end_with_the_rounds() -> None:
    slow = [f"slow-{number}" for number in range(2 * READ_AT_ONCE)]
    looks = Looks()
    rounds = Rounds([*slow, "quick"], looks.look)
    running = asyncio.create_task(rounds.run())
    async with asyncio.timeout(GUARD):
        for job_id in slow:
            rounds.mark(job_id)
        while looks.begun.total() < len(slow):  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)
        rounds.mark("quick")
        await looks.looked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert looks.cancelled == len(slow)
    assert repr(rounds) == f"Rounds(jobs={len(slow) + 1}, marked=0, looked_at=0, later=0)"


async def test_one_that_changes_while_it_is_looked_at_is_looked_at_once_more_after_that() -> None:
    looks = Looks()
    rounds = Rounds(["slow", "quick"], looks.look)
    running = asyncio.create_task(rounds.run())
    async with asyncio.timeout(GUARD):
        rounds.mark("slow")
        await asyncio.sleep(0.001)
        for _ in range(3):
            rounds.mark("slow")
            rounds.mark("quick")
            await looks.looked.wait()
            looks.looked.clear()
        assert looks.begun["slow"] == 1
        looks.go_on.set()
        while looks.begun["slow"] < 2:  # noqa: ASYNC110  the same
            await asyncio.sleep(0.001)
    running.cancel()


async def test_what_a_look_fails_with_ends_the_rounds_and_all_other_looks() -> None:
    looks = Looks()
    rounds = Rounds(["slow", "broken"], looks.look)
    rounds.mark("slow")
    rounds.mark("broken")
    async with asyncio.timeout(GUARD):
        with pytest.raises(ExceptionGroup) as failed:
            await rounds.run()
    assert [str(one) for one in failed.value.exceptions] == ["broken"]
    assert looks.cancelled == 1


async def test_one_that_could_not_be_looked_at_is_looked_at_again_when_its_look_says() -> None:
    looks = Looks()
    looks.after = 0.001
    rounds = Rounds(["away"], looks.look)
    running = asyncio.create_task(rounds.run())
    async with asyncio.timeout(GUARD):
        rounds.mark("away")
        for _ in range(3):
            await looks.looked.wait()
            looks.looked.clear()
        running.cancel()
        await asyncio.wait([running])
    assert looks.begun["away"] == 3


async def test_one_that_changes_before_it_was_to_be_looked_at_again_is_looked_at_at_once_and_not_twice() -> None:
    looks = Looks()
    looks.after = 3_600.0
    rounds = Rounds(["away"], looks.look)
    running = asyncio.create_task(rounds.run())
    async with asyncio.timeout(GUARD):
        rounds.mark("away")
        await looks.looked.wait()
        looks.looked.clear()
        await asyncio.sleep(0)
        assert repr(rounds) == "Rounds(jobs=1, marked=0, looked_at=0, later=1)"
        looks.after = None
        rounds.mark("away")
        await looks.looked.wait()
        await asyncio.sleep(0)
    assert repr(rounds) == "Rounds(jobs=1, marked=0, looked_at=0, later=0)"
    running.cancel()
    await asyncio.wait([running])


async def test_nothing_is_to_be_looked_at_later_once_the_rounds_have_ended() -> None:
    looks = Looks()
    looks.after = 0.002
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: wrong.append(what))
    rounds = Rounds(["away"], looks.look)
    running = asyncio.create_task(rounds.run())
    async with asyncio.timeout(GUARD):
        rounds.mark("away")
        await looks.looked.wait()
        running.cancel()
        await asyncio.wait([running])
        due = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * looks.after, due.set)
        await due.wait()
    assert (repr(rounds), wrong) == ("Rounds(jobs=1, marked=0, looked_at=0, later=0)", [])
