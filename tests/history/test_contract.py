"""What every database of history promises: a line is kept once, exactly, and found again by job, worker and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from holon.domain.events import HistoryEvent
from holon.domain.job import Job, JobError, Status
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import HistoryStorage, JobFilter, JobRecord, Notice
from holon.storage.history import columns
from tests.history.backends import Database, SqliteDatabase


def record(job_id: str, at: int = 0, **fields: Any) -> JobRecord:
    """A job that was created at this time."""
    job = Job(job_id, fields.pop("blueprint", "bp"), fields.pop("owner", "ann"), {}, "start", created_at=at)
    job = replace(job, **fields.pop("job", {}))
    given: dict[str, Any] = {"created_at": at, "updated_at": at, "finished_at": None, "progress": None}
    given |= {"job": job, "progress_message": "", "sequence": 1}
    return JobRecord(**given | fields)


def notice(of: JobRecord, first: int = 1, *events: HistoryEvent) -> Notice:
    """What one commit told of it."""
    return Notice(f"{of.job.id}:{first}", of, first, events or (HistoryEvent("job_created", of.created_at),))


def finished(job_id: str, at: int, end: int, result: Any = None, **fields: Any) -> JobRecord:
    """A job that has ended well."""
    job = {"status": Status.FINISHED, "result": result}
    return record(job_id, at, job=job, finished_at=end, updated_at=end, **fields)


RICH = HistoryEvent(
    "task_finished",
    1_700_000_000_123,
    "start",
    "before",
    "after",
    17,
    "worker-1",
    3,
    "0-a-0-0",
    {"n": 2**60 + 1, "f": 3.0, "none": None, "empty": {}, "text": "ü\0\u2028", "list": [1, [2]]},
)


async def test_jobs_are_found_by_the_beginning_of_their_ids_each_owners_own(history: HistoryStorage) -> None:
    jobs = ["0-01a2", "0-01a2f", "0-01b", "1-01a2", "10-1a2"]
    await history.add([notice(record(job_id)) for job_id in jobs] + [notice(record("0-01a3", owner="bob"))])
    assert await history.job_ids("ann", "0-01a", 10) == ["0-01a2", "0-01a2f"]
    assert await history.job_ids("ann", "0-01a", 1) == ["0-01a2"]
    assert await history.job_ids("bob", "0-01a", 10) == ["0-01a3"]
    assert await history.job_ids("ann", "10-1", 10) == ["10-1a2"]
    assert await history.job_ids("ann", "0-02", 10) == []


async def test_a_line_comes_back_as_it_went_in(history: HistoryStorage) -> None:
    events = (HistoryEvent("job_created", 5), RICH, replace(RICH, details={}))
    await history.add([notice(record("0-a"), 1, *events)])
    assert list(await history.history("0-a", 0, 10)) == list(enumerate(events, start=1))


async def test_a_batch_that_comes_again_changes_nothing(history: HistoryStorage) -> None:
    first = notice(record("0-a"), 1, RICH)
    await history.add([first])
    await history.add([notice(record("0-a"), 1, replace(RICH, type="other")), notice(record("0-a"), 2, RICH)])
    assert list(await history.history("0-a", 0, 10)) == [(1, RICH), (2, RICH)]


async def test_batches_of_the_same_lines_at_once_are_kept_once(history: HistoryStorage) -> None:
    notices = [notice(record(f"0-{job}"), 1, *[RICH] * 5) for job in range(40)]
    await asyncio.gather(*(history.add(notices if turn % 2 else notices[::-1]) for turn in range(6)))
    for one in notices:
        assert [number for number, _ in await history.history(one.record.job.id, 0, 10)] == [1, 2, 3, 4, 5]


async def test_an_empty_batch_is_nothing(history: HistoryStorage) -> None:
    await history.add([])


async def test_history_is_read_in_pages(history: HistoryStorage) -> None:
    events = [HistoryEvent(f"line-{number}", number) for number in range(1, 11)]
    await history.add([notice(record("0-a"), 6, *events[5:]), notice(record("0-a"), 1, *events[:5])])
    await history.add([notice(record("0-b"))])
    numbered = list(enumerate(events, start=1))
    assert list(await history.history("0-a", 0, 4)) == numbered[:4]
    assert list(await history.history("0-a", 4, 4)) == numbered[4:8]
    assert list(await history.history("0-a", 8, 4)) == numbered[8:]
    assert list(await history.history("0-a", 10, 4)) == []
    assert list(await history.history("0-unknown", 0, 4)) == []


async def test_a_job_is_kept_as_it_ended(history: HistoryStorage) -> None:
    told = {"sequence": 7, "progress": 99.5, "progress_message": "m"}
    ended = finished("0-a", 1_000, 5_000, {"n": 2**60 + 1, "nul": "\0"}, **told)
    failed = record("0-b", job={"status": Status.FAILED, "error": JobError("CODE", "why", [1, None])}, finished_at=3)
    await history.add([notice(ended), notice(failed)])
    assert await history.job("0-a") == ended
    assert await history.job("0-b") == failed
    assert await history.job("0-c") is None


async def test_a_job_that_is_further_on_stays_so(history: HistoryStorage) -> None:
    ended = finished("0-a", 0, 9, sequence=5)
    await history.add([notice(ended, 3, RICH)])
    await history.add([notice(record("0-a", sequence=2))])
    assert await history.job("0-a") == ended


async def test_text_that_no_database_holds_is_mended_and_stops_nothing(history: HistoryStorage) -> None:
    odd = replace(RICH, state="a\0b", next_state="c\udcffd", duration_ms=2**70, details={})
    message = {"status": Status.FAILED, "error": JobError("CODE", "nul \0 and \ud800", None)}
    await history.add([notice(record("0-a", job=message, finished_at=1), 1, odd, RICH)])
    (_, mended), (_, after) = await history.history("0-a", 0, 10)
    assert (mended.state, mended.next_state) == ("a\ufffdb", "c?d")
    assert after == RICH
    found = await history.job("0-a")
    assert found is not None
    assert found.job.error == JobError("CODE", "nul \ufffd and ?", None)


async def ids(history: HistoryStorage, limit: int = 3, **which: Any) -> list[str]:
    """What a list shows, over all its pages, which must be in order."""
    shown: list[JobRecord] = []
    before = None
    while page := await history.jobs(JobFilter(**{"owner": "ann"} | which), before, limit):
        assert len(page) <= limit
        shown += page
        before = (page[-1].created_at, page[-1].job.id)
    assert all((one.created_at, one.job.id) > (other.created_at, other.job.id) for one, other in pairwise(shown))
    return [one.job.id for one in shown]


async def test_jobs_are_listed_newest_first_in_pages_by_what_is_asked(history: HistoryStorage) -> None:
    jobs = [
        finished("0-a", 10, 50),
        record("0-b", 20),
        finished("0-c", 20, 50, blueprint="other"),
        finished("0-d", 20, 50),
        record("0-e", 30, job={"status": Status.FAILED}, finished_at=60),
        finished("0-f", 30, 50, owner="bob"),
        finished("0-g", 40, 50),
    ]
    await history.add([notice(one) for one in jobs])
    for limit in (1, 2, 3, 10):
        assert await ids(history, limit) == ["0-g", "0-e", "0-d", "0-c", "0-b", "0-a"]
    assert await ids(history, owner="bob") == ["0-f"]
    assert await ids(history, owner="eve") == []
    assert await ids(history, blueprint="other") == ["0-c"]
    assert await ids(history, statuses=(Status.FINISHED,)) == ["0-g", "0-d", "0-c", "0-a"]
    assert await ids(history, statuses=(Status.FAILED, Status.PENDING)) == ["0-e", "0-b"]
    assert await ids(history, created_after=20, created_before=40) == ["0-e", "0-d", "0-c", "0-b"]
    assert await ids(history, created_after=20, created_before=40, blueprint="bp", limit=1) == ["0-e", "0-d", "0-b"]


LARGE: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "result": lambda text: {"job": {"status": Status.FINISHED, "result": text}},
    "error": lambda text: {"job": {"status": Status.FAILED, "error": JobError("CODE", text)}},
    "details": lambda text: {"job": {"status": Status.FAILED, "error": JobError("CODE", "why", [text])}},
    "message": lambda text: {"progress_message": text},
}


@pytest.mark.parametrize("large", LARGE)
async def test_a_page_of_large_jobs_is_bounded_in_bytes(history: HistoryStorage, large: str) -> None:
    of = LARGE[large]
    await history.add([notice(record(f"0-{n}", n, **of("x" * 1_100_000))) for n in range(8)])
    assert len(await history.jobs(JobFilter("ann"), None, 10)) == 2
    assert await ids(history, 10) == [f"0-{n}" for n in reversed(range(8))]
    await history.add([notice(record("0-huge", 100, **of("x" * 4 * 2**20)))])
    assert [one.job.id for one in await history.jobs(JobFilter("ann"), None, 10)] == ["0-huge"]


async def test_a_worker_is_found_in_the_jobs_of_one_owner_newest_first(history: HistoryStorage) -> None:
    def by(worker: str | None, time: int) -> HistoryEvent:
        return HistoryEvent("task_finished", time, worker_id=worker)

    await history.add(
        [
            notice(record("0-a"), 1, by("w1", 10), by("w2", 20), by("w1", 30), by(None, 30)),
            notice(record("0-b"), 1, by("w1", 30), by("w1", 30)),
            notice(record("0-c", owner="bob"), 1, by("w1", 40)),
        ]
    )
    for limit in (1, 2, 10):
        found: list[tuple[str, int]] = []
        before = None
        while page := await history.of_worker("ann", "w1", before, limit):
            assert all(one.event.worker_id == "w1" for one in page)
            found += [(one.job_id, one.sequence) for one in page]
            before = (page[-1].event.time, page[-1].job_id, page[-1].sequence)
        assert found == [("0-b", 2), ("0-b", 1), ("0-a", 3), ("0-a", 1)]
    assert [one.job_id for one in await history.of_worker("bob", "w1", None, 10)] == ["0-c"]
    assert list(await history.of_worker("ann", "w3", None, 10)) == []


@pytest.mark.parametrize("look_at", [1, 2, 3, 7])
async def test_few_are_found_among_many_whatever_lies_between(
    history: HistoryStorage, look_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few are looked at in one read, at times that many of them share."""
    monkeypatch.setattr(columns, "LOOK_AT", look_at)
    owners = ("ann", "bob", "bob", "bob")
    for number in range(24):
        blueprint = "rare" if number % 8 == 0 else "bp"
        job = record(f"0-{number:02}", number // 3, owner=owners[number % 4], blueprint=blueprint)
        worked = HistoryEvent("task_finished", number // 5, worker_id="w1")
        await history.add([notice(job, 1, HistoryEvent("job_created", 0), worked, worked)])
    for limit in (1, 2, 100):
        found: list[tuple[str, int]] = []
        since = None
        while page := await history.of_worker("ann", "w1", since, limit):
            found += [(one.job_id, one.sequence) for one in page]
            since = (page[-1].event.time, page[-1].job_id, page[-1].sequence)
        assert found == [(f"0-{number:02}", line) for number in range(20, -1, -4) for line in (3, 2)]
        assert await ids(history, limit, owner="ann", blueprint="rare") == ["0-16", "0-08", "0-00"]
        assert await ids(history, limit, owner="ann", blueprint="rare", created_after=2) == ["0-16", "0-08"]
        assert await ids(history, limit, owner="ann", statuses=(Status.FINISHED,)) == []


async def test_who_looks_for_a_few_among_many_lets_others_in_between(tmp_path: Path) -> None:
    """Otherwise any client could keep all others from history: what a worker did for others is passed over too."""
    async with SqliteDatabase(tmp_path).open() as history:
        lines = [HistoryEvent("task_finished", n, worker_id="w1") for n in range(3 * columns.LOOK_AT)]
        await history.add([notice(record("0-a", owner="bob"), 1, *lines)])
        long = asyncio.ensure_future(history.of_worker("ann", "w1", None, 10))
        others = 0
        while not long.done():
            assert len(await history.history("0-a", 0, 1)) == 1
            others += 1
        assert list(await long) == []
        # One for each of its reads, of which a single look would have two.
        assert others > 4


async def test_what_ended_long_ago_is_forgotten_with_its_history_a_few_at_a_time(history: HistoryStorage) -> None:
    await history.add([notice(finished(f"0-{n}", n, 100 + n)) for n in range(5)])
    await history.add([notice(record("0-alive", 0))])
    assert await history.purge(103, 2) == 2
    assert await history.purge(103, 2) == 1
    assert await history.purge(103, 2) == 0
    assert await ids(history) == ["0-4", "0-3", "0-alive"]
    assert list(await history.history("0-2", 0, 10)) == []
    assert len(await history.history("0-3", 0, 10)) == 1


async def test_it_outlives_those_who_open_it(database: Database) -> None:
    async with database.open() as first:
        await first.add([notice(finished("0-a", 1, 2, {"n": 1}), 1, RICH)])
    async with database.open() as again:
        assert list(await again.history("0-a", 0, 10)) == [(1, RICH)]
        assert await again.job("0-a") == finished("0-a", 1, 2, {"n": 1})


async def test_two_nodes_write_to_one_history(database: Database) -> None:
    async with database.open() as one, database.open() as other:
        notices = [notice(record(f"0-{job}"), 1, *[RICH] * 5) for job in range(40)]
        await asyncio.gather(one.add(notices), other.add(notices[::-1]), one.add(notices[20:]))
        assert sum([len(await other.history(each.record.job.id, 0, 10)) for each in notices]) == 200


async def test_who_comes_after_its_end_is_told_that_it_is_away(database: Database) -> None:
    async with database.open() as history:
        pass
    with pytest.raises(StoreUnavailable) as away:
        await history.add([notice(record("0-a"))])
    assert away.value.code == "HISTORY_UNAVAILABLE"
    with pytest.raises(StoreUnavailable):
        await history.history("0-a", 0, 1)
    assert repr(history).endswith("closed)")


@pytest.mark.parametrize("ms", [0, 2, 5, 10, 20])
async def test_a_write_whose_caller_goes_away_leaves_the_next_one_its_turn(history: HistoryStorage, ms: int) -> None:
    notices = [notice(record(f"0-{job}"), 1, *[RICH] * 50) for job in range(60)]
    writing = asyncio.create_task(history.add(notices))
    await asyncio.wait((writing,), timeout=ms / 1000)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert {len(await history.history(one.record.job.id, 0, 100)) for one in notices} in ({0}, {50})
    await history.add(notices)
    assert len(await history.history("0-59", 0, 100)) == 50
