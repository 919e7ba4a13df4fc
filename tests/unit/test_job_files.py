"""What clears away files of jobs that are over: it never waits for anybody, and outlives what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holon.domain.job import Job
from holon.engine import job_files
from holon.engine.job_files import Cleaner
from holon.errors import Unavailable
from holon.telemetry.events import Telemetry
from tests.unit.machine import job as new_job


class Place:
    """Where jobs have left something."""

    def __init__(self, *left: str) -> None:
        self.left = {*left}
        self.alive: set[str] = set()
        self.away = False
        self.removed = asyncio.Event()

    async def over(self, job_id: str) -> bool:
        return job_id not in self.alive

    async def found(self) -> AsyncIterator[str]:
        if self.away:
            raise Unavailable("away")
        for job_id in sorted(self.left):
            yield job_id

    async def remove(self, job_id: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.left.discard(job_id)
        if self.left == self.alive:
            self.removed.set()

    def cleaner(self) -> Cleaner:
        return Cleaner(self.over, self.found, self.remove)


async def cleared(place: Place, cleaner: Cleaner) -> None:
    running = asyncio.create_task(cleaner.run())
    async with asyncio.timeout(60):
        await place.removed.wait()
    running.cancel()


async def test_what_was_left_before_is_found_and_what_is_alive_stays() -> None:
    place = Place(*(f"0-{number}" for number in range(100)), "0-alive")
    place.alive.add("0-alive")
    await cleared(place, place.cleaner())
    assert place.left == {"0-alive"}


async def test_what_cannot_be_deleted_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_files, "EVERY_S", 0.001)
    place = Place("0-a", "0-b")
    place.away = True
    cleaner = place.cleaner()
    cleaner.tell("0-a")
    running = asyncio.create_task(cleaner.run())
    await asyncio.sleep(0)
    place.away = False
    async with asyncio.timeout(60):
        await place.removed.wait()
    running.cancel()


async def test_whoever_tells_it_never_waits_and_what_is_too_much_is_left_for_later() -> None:
    place = Place()
    cleaner = place.cleaner()
    for number in range(job_files.WAITING + 10):
        cleaner.tell(f"0-{number}")
    assert repr(cleaner) == f"Cleaner(waiting={job_files.WAITING})"


def test_a_run_that_was_void_is_told_as_one_whose_job_may_be_over() -> None:
    told: list[Job] = []
    telemetry = Telemetry()
    job = new_job()
    telemetry.void(job)
    telemetry.ended_job = told.append
    telemetry.void(job)
    assert told == [job]
    assert telemetry.metrics.void.values == {(): 2}
