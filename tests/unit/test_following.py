"""Jobs that are followed: told as they are committed, or read, and watched for as long as anybody wants that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.engine import rounds
from holon.engine.following import Following, Watched
from holon.errors import StoreUnavailable
from holon.ports import JobRecord

RECORD = JobRecord(Job("j", "b", "@parent", {}, "s", Status.RUNNING), 1, 1, None, None, "")
GUARD = 60.0


class Store:
    """A store with one job; what it has at hand is set by the test."""

    def __init__(self) -> None:
        self.watched: list[str] = []
        self.hand: JobRecord | None = None
        self.unreadable = ""
        self.record: JobRecord | None = RECORD
        self.expects = True
        self.reads = 0
        self.failures = 0

    async def watch(self, job_id: str) -> None:
        self.watched.append(job_id)

    def expect(self, job_id: str, *, history: bool) -> bool:
        if self.expects:
            self.watched.append(job_id)
        return self.expects

    def unwatch(self, job_id: str) -> None:
        self.watched.remove(job_id)

    def at_hand(self, job_id: str) -> JobRecord | None:
        if job_id == self.unreadable:
            raise RuntimeError("no job like that")
        return self.hand

    async def job(self, job_id: str) -> JobRecord | None:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away", retry_after=0.001)
        return self.record


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def jobs(store: Any) -> AsyncIterator[Following]:
    followed = Following(store, Watched(store))
    running = asyncio.create_task(followed.run())
    yield followed
    running.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD):
        while not condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.001)


async def test_what_is_at_hand_of_a_job_that_was_expected_is_told_at_once_and_never_read(
    store: Store, jobs: Following
) -> None:
    told: list[JobRecord | None] = []
    jobs.expect("j")
    store.hand = RECORD
    jobs.follow("j", told.append)
    assert told == [RECORD]
    jobs.changed({"j", "another"})
    assert told == [RECORD]
    store.hand = replace(RECORD, sequence=2)
    jobs.changed({"j"})
    assert told == [RECORD, store.hand]
    # From here on it changes all the time, and is told a little later.
    store.record = store.hand = replace(RECORD, sequence=3)
    jobs.changed({"j"})
    assert len(told) == 2
    await until(lambda: len(told) == 3)
    assert told[2] is store.hand
    jobs.leave("j")
    jobs.changed({"j"})
    assert (len(told), store.watched) == (3, [])


@pytest.mark.parametrize("expected", [False, True])
async def test_what_is_not_at_hand_is_read_and_again_where_the_store_is_away(
    store: Store, jobs: Following, expected: bool
) -> None:
    told: list[JobRecord | None] = []
    store.expects, store.failures = expected, 2
    jobs.expect("j")
    jobs.follow("j", told.append)
    await until(lambda: bool(told))
    assert (told, store.reads, store.watched) == ([RECORD], 3, ["j"])
    store.record = None
    jobs.changed({"j"})
    await until(lambda: len(told) == 2)
    assert told[1] is None
    jobs.leave("j")
    jobs.leave("j")
    assert store.watched == []


async def test_a_hint_that_was_lost_is_made_up_for(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "LOOK_EVERY_S", 0.01)
    jobs = Following(store, Watched(store))
    running = asyncio.create_task(jobs.run())
    store.hand = RECORD
    told: list[JobRecord | None] = []
    jobs.expect("j")
    jobs.follow("j", told.append)
    store.record = replace(RECORD, sequence=2)
    await until(lambda: store.record in told)
    running.cancel()


async def test_who_fails_to_take_what_is_told_harms_nobody_else(store: Store, jobs: Following) -> None:
    def fail(_: JobRecord | None) -> None:
        raise RuntimeError("no")

    told: list[JobRecord | None] = []
    store.hand = RECORD
    for job_id, seen in (("i", fail), ("j", told.append)):
        jobs.expect(job_id)
        jobs.follow(job_id, seen)
    assert told == [RECORD]


async def test_a_job_that_is_no_use_at_hand_is_read_and_keeps_nothing_from_others_of_its_hint(
    store: Store, jobs: Following, caplog: pytest.LogCaptureFixture
) -> None:
    told: dict[str, list[JobRecord | None]] = {job_id: [] for job_id in "hij"}
    store.hand = RECORD
    for job_id, of_job in told.items():
        jobs.expect(job_id)
        jobs.follow(job_id, of_job.append)
    store.unreadable, store.hand, store.record = "i", replace(RECORD, sequence=2), replace(RECORD, sequence=3)
    jobs.changed(told.keys())
    assert (told["h"], told["j"]) == ([RECORD, store.hand], [RECORD, store.hand])
    assert "news of job i cannot be sent at once" in caplog.text
    await until(lambda: told["i"] == [RECORD, store.record])


async def test_a_job_is_watched_as_long_as_one_of_many_wants_that(store: Any) -> None:
    watched = Watched(store)
    await watched.add("j")
    assert watched.expect("j", history=True)
    watched.drop("j")
    assert set(store.watched) == {"j"}
    store.watched = ["j"]
    watched.drop("j")
    assert store.watched == []
    assert repr(watched) == "Watched(0)"


async def test_a_job_that_was_expected_and_never_made_is_watched_no_more(store: Store, jobs: Following) -> None:
    jobs.expect("j")
    jobs.expect("j")
    assert repr(jobs) == "Following(0, expected=1)"
    jobs.leave("j")
    assert store.watched == []
