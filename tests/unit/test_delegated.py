"""A task of the parent's: what is told of its job, and that nothing is done to it any more once that is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holon.domain.job import Job, Status
from holon.domain.log_lines import Logged
from holon.domain.matching import Need
from holon.ports import JobRecord
from holon.uplink.delegated import WAITING, Delegated
from holon.uplink.delegation import Delegation

Seen = Callable[[JobRecord | None], None]
Logs = Callable[[Logged], None]


def ignored(*_: object) -> None:
    pass


class Gone:
    """A job that is soon gone; it is its own jobs and following."""

    def __init__(self) -> None:
        self.followed: dict[str, Seen] = {}

    def follow(self, job_id: str, seen: Seen, logged: Logs) -> None:
        self.followed[job_id] = seen
        self.logs = logged

    def leave(self, job_id: str) -> None:
        del self.followed[job_id]


async def what_is_due() -> None:
    """Return once the timers have rung that are due now: those that are set later ring later."""
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(0, rung.set)
    await rung.wait()


async def test_a_job_that_is_over_has_no_time_any_more() -> None:
    gone: Any = Gone()
    calls: list[str] = []
    entry = Delegation("parent", "t1", "0-job", 1, 1, "lease")
    ends: list[JobRecord | None] = []
    running = Delegated(
        gone,
        gone,
        entry,
        lambda *_: None,
        lambda: None,
        lambda _: None,
        lambda _, record: ends.append(record),
        ignored,
        ignored,
    )
    running.limit(3_600, lambda: calls.append("first"))
    running.limit(0, lambda: calls.append("newest"))
    await what_is_due()
    assert calls == ["newest"]
    running.soon(0, lambda: calls.append("withdrawn"))
    running.follow()
    gone.followed["0-job"](None)
    assert ends == [None]
    # Another hint of the same.
    gone.followed["0-job"](None)
    assert ends == [None]
    # While its end is told, its lease may go on, or be taken back.
    running.limit(0, lambda: calls.append("late"))
    running.soon(0, lambda: calls.append("late"))
    await what_is_due()
    assert calls == ["newest"]
    running.leave()
    assert gone.followed == {}


async def test_a_job_whose_branches_wait_says_why_and_takes_one_place_and_not_two() -> None:
    class Waiting(Gone):
        def progress_message(self, record: JobRecord) -> str:
            return "waiting: nobody"

        def percent(self, record: JobRecord) -> None:
            return None

    jobs: Any = Waiting()
    said: list[str] = []
    entry = Delegation("parent", "t1", "0-job", 1, 1, "lease")
    running = Delegated(
        jobs, jobs, entry, lambda *told: said.append(told[2]), lambda: None, lambda _: None, ignored, ignored, ignored
    )
    running.follow()
    for status in (Status.WAITING_FOR_PARALLEL, Status.WAITING_FOR_WORKER):
        job = Job("0-job", "bp", "parent", {}, "start", status)
        jobs.followed["0-job"](JobRecord(job, 0, 0, None, None, "", Need("t")))
        assert running.unplaced + running.fanned == 1
    assert said == ["in a holon below: waiting: nobody"]
    running.leave()


PART = "in job 0-part: waiting for a decision (yes, no): go on?"
FURTHER = "in a holon below: waiting: nobody"


@pytest.mark.parametrize(
    ("in_words", "message", "told"),
    [
        (True, PART, f"in a holon below: {PART}"),
        (True, FURTHER, FURTHER),
        (True, "tick 4", "tick 4"),
        (False, PART, WAITING),
        (False, FURTHER, WAITING),
        (False, WAITING, WAITING),
    ],
)
async def test_that_a_part_of_its_job_or_a_holon_further_down_waits_is_told_as_that_it_waits(
    in_words: bool, message: str, told: str
) -> None:
    class Waiting(Gone):
        def progress_message(self, record: JobRecord) -> str:
            return message

        def percent(self, record: JobRecord) -> None:
            return None

    jobs: Any = Waiting()
    said: list[str] = []
    running = Delegated(
        jobs,
        jobs,
        Delegation("parent", "t1", "0-job", 1, 1, "lease"),
        lambda *words: said.append(words[2]),
        lambda: None,
        lambda _: None,
        ignored,
        ignored,
        ignored,
        in_words=in_words,
    )
    running.follow()
    job = Job("0-job", "bp", "parent", {}, "start", Status.WAITING_FOR_CHILD)
    jobs.followed["0-job"](JobRecord(job, 0, 0, None, None, ""))
    assert said == [told]
    running.leave()
