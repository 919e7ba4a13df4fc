"""Which events of its parts a job has heard of: told to many that begin anew together, and of many jobs."""

from __future__ import annotations

import asyncio

import pytest

from holon.engine.children import taken
from holon.engine.children.taken import Taken
from tests.unit.histories import Histories, line, reader


def store_of(*jobs: str) -> Histories:
    """Jobs with three parts each, of which each has told of one event, by its number."""
    return Histories({job: {n + 1: line("worker_event:a", n, f"{job}-1-{n}") for n in range(3)} for job in jobs})


async def test_the_parts_of_several_jobs_that_begin_anew_in_turns_have_each_history_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taken, "MOST_JOBS", 2)
    store = store_of(*"ABCD")
    heard = Taken(reader(store))
    asked = [(job, n) for n in range(3) for job in "AB"]
    assert [await heard.by(job, f"{job}-1-{n}", 0.0) for job, n in asked] == [{n} for _, n in asked]
    assert [job for job, _ in store.asked] == ["A", "B"]
    for job in "CDA":
        assert await heard.by(job, f"{job}-1-0", 0.0) == {0}
    # Of those that nobody asks about, few are kept.
    assert [job for job, _ in store.asked] == ["A", "B", "C", "D", "A"]


async def test_what_was_read_before_a_part_began_anew_is_read_again() -> None:
    store = store_of("A")
    heard = Taken(reader(store))
    for _ in range(2):
        assert await heard.by("A", "A-1-0", float("inf")) == {0}
    assert len(store.asked) == 2


async def test_nobody_waits_for_the_history_of_another_job() -> None:
    store = store_of("A", "B")
    heard = Taken(reader(store))
    store.gate.clear()
    first = asyncio.create_task(heard.by("A", "A-1-0", 0.0))
    await store.called.wait()
    store.called.clear()
    second = asyncio.create_task(heard.by("B", "B-1-1", 0.0))
    await store.called.wait()
    store.gate.set()
    assert (await first, await second) == ({0}, {1})
