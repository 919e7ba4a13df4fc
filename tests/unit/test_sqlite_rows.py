"""Rows of the ledger as columns: what is durable comes back as it was, and what is not is known by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest

from holon.domain.events import BranchesDone, CancelRequested, TaskEnded, Woken
from holon.domain.job import Job, Status
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy, TaskError
from holon.ports import Attempt, NewTask, Superseded
from holon.storage.ledger.row import Row
from holon.storage.ledger.rows import HARD, SOFT, FanOut, JobRow, TaskRow, TaskState
from holon.storage.ledger.shared_rows import DocumentRow
from holon.storage.records import encode_job, encode_need, unpack
from holon.storage.sealing import Seal
from holon.storage.sqlite import fan_rows, job_rows, needs, task_rows
from holon.storage.sqlite.schema import upgrade

NEED = Need("s", "1", "t", ("a", "b"))
OUTCOME = Outcome("failure", b'{"n":1}', TaskError("CODE", "words", b"[]"), "w1")

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=x"

# A claim, readiness and timers end with the process; a fan-out is a row of its own.
MEMORY_OF_JOB = {"claim_id", "claim_until", "fan", "ready_seq", "reply", "spawn_at", "timer_at"}
MEMORY_OF_TASK = {"lease_until", "timer_at"}


@pytest.fixture(params=[(), (bytes(range(32)),)], ids=["plain", "sealed"])
def seal(request: pytest.FixtureRequest) -> Seal:
    return Seal(request.param)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    upgrade(db, Path(":memory:"))
    yield db
    db.close()


def job(n: int = 1) -> JobRow:
    return JobRow(n, "0-a", "ann", "bp", Status.PENDING, encode_job(Job("0-a", "bp", "ann", {}, "start")), 1_000, 1_000)


def full_job() -> JobRow:
    row = job()
    row.request_id, row.request_digest = "r", b"digest"
    row.budget, row.cost, row.reserved, row.unreported = 100, 2, 30, (("lease-1", 40), ("lease-2", 5))
    row.updated_at, row.status, row.due = 2_000, Status.WAITING_FOR_WORKER, False
    row.step, row.commit_id, row.progress, row.message, row.history_seq = 3, "commit", 12.5, "half way", 7
    row.inbox = (
        (4, TaskEnded(2, "0-a-2-0", OUTCOME, 2)),
        (5, BranchesDone(2, 1, True, False)),
        (6, Woken(2)),
        (7, CancelRequested("ann")),
        (8, CancelRequested("ann", insist=False)),
    )
    row.inbox_seq, row.cancel_pending, row.dedups, row.deliveries = 7, True, ("one", "two"), 2
    row.wake_at, row.wake_step, row.open_step, row.open_count = 9_000, 2, 2, 1
    return row


def over_job() -> JobRow:
    row = full_job()
    row.status, row.over, row.finished_at = Status.FINISHED, True, 3_000
    row.inbox, row.cancel_pending = (), False
    return row


def task() -> TaskRow:
    new = NewTask("0-a-2-1", 1, NEED, b'{"x":1}', 1.5, 300, None, None, RetryPolicy(1, 2, 3), TRACE)
    return TaskRow.made(5, "0-a", 2, new, True, 1_000)


def full_task() -> TaskRow:
    row = task()
    row.dispatch_due, row.result_due, row.execution_due, row.until = 10, 20, 30, 40
    row.state, row.accepted, row.progress = TaskState.LEASED, True, 33.0
    row.worker_id, row.session_id, row.lease_id = "w1", "session", "lease"
    row.applied_lease, row.applied_worker, row.generation, row.attempt, row.losses = "before", "w2", 2, 3, 1
    row.at_once, row.written_off, row.lease_lasts = 2, True, 300_000
    row.avoid = (("w2", 50, SOFT), ("w3", 60, HARD))
    row.attempts = (Attempt("w2", 1, 2, 3), Attempt("w1", 4, None, None))
    return row


def over_task() -> TaskRow:
    row = full_task()
    row.state, row.outcome, row.over_reason, row.params = TaskState.OVER, OUTCOME, Superseded.DEADLINE_EXCEEDED, b""
    return row


def test_the_text_of_a_row_names_its_job_and_nothing_that_it_holds() -> None:
    row = full_job()
    row.state = b"secret"
    assert repr(row) == f"JobRow({row.id})"
    assert repr(DocumentRow("keys", "k", 1, b"secret")) == "DocumentRow()"


def slots(row: Row, but: set[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__ if name not in but}


def large_job() -> JobRow:
    row = full_job()
    row.state = b"s" * (job_rows.LARGEST_INSIDE + 1)
    return row


@pytest.mark.parametrize("row", [job(), full_job(), over_job(), large_job()], ids=["new", "full", "over", "large"])
@pytest.mark.parametrize("before", [None, job(), large_job()], ids=["inserted", "was small", "was large"])
def test_a_jobs_row_comes_back_as_it_was(
    db: sqlite3.Connection, seal: Seal, row: JobRow, before: JobRow | None
) -> None:
    first = row if before is None else before
    first.request_id, first.request_digest = row.request_id, row.request_digest
    db.execute(job_rows.INSERT, job_rows.inserted(first, seal))
    if job_rows.apart(first):
        db.execute(job_rows.REPLACE_STATE, job_rows.replaced_state(first, seal))
    if before is not None:
        db.execute(job_rows.UPDATE_WITH_STATE, job_rows.updated_with_state(row, seal))
        if job_rows.apart(row):
            db.execute(job_rows.REPLACE_STATE, job_rows.replaced_state(row, seal))
    again = job_rows.job_row(db.execute(job_rows.SELECT_ONE, (row.id,)).fetchone(), seal)
    assert slots(again, MEMORY_OF_JOB) == slots(row, MEMORY_OF_JOB)
    live = db.execute(job_rows.SELECT_LIVE).fetchall()
    assert len(live) == (not row.over)


def test_a_job_that_changes_without_its_state_keeps_that(db: sqlite3.Connection, seal: Seal) -> None:
    for row in (job(), large_job()):
        db.execute(job_rows.INSERT, job_rows.inserted(row, seal))
        if job_rows.apart(row):
            db.execute(job_rows.REPLACE_STATE, job_rows.replaced_state(row, seal))
        row.message = "on its way"
        db.execute(job_rows.UPDATE, job_rows.updated(row, seal))
        again = job_rows.job_row(db.execute(job_rows.SELECT_ONE, (row.id,)).fetchone(), seal)
        assert (again.state, again.message) == (row.state, "on its way")
        db.execute("DELETE FROM jobs")


@pytest.mark.parametrize("row", [task(), full_task(), over_task()], ids=["new", "full", "over"])
@pytest.mark.parametrize("how", ["inserted", "updated"])
def test_a_tasks_row_comes_back_as_it_was(db: sqlite3.Connection, seal: Seal, row: TaskRow, how: str) -> None:
    db.execute(job_rows.INSERT, job_rows.inserted(job(3), seal))
    db.execute(needs.INSERT, (NEED.key, encode_need(NEED), 3))
    if how == "inserted":
        db.execute(task_rows.INSERT, task_rows.inserted(row, 3, seal))
    else:
        first = task()
        first.dispatch_due, first.result_due = row.dispatch_due, row.result_due
        db.execute(task_rows.INSERT, task_rows.inserted(first, 3, seal))
        if row.state is TaskState.OVER:
            db.execute(task_rows.END, task_rows.ended(row, seal))
        else:
            db.execute(task_rows.UPDATE, task_rows.updated(row))
    again = task_rows.task_row(db.execute(task_rows.SELECT_ONE, ("0-a", 2, 1)).fetchone(), seal)
    assert slots(again, MEMORY_OF_TASK) == slots(row, MEMORY_OF_TASK)
    assert len(db.execute(task_rows.SELECT_LIVE).fetchall()) == (row.state is not TaskState.OVER)


def test_a_task_that_an_earlier_release_wrote_has_what_came_since_as_it_is_at_first(db: sqlite3.Connection) -> None:
    row = full_task()
    db.execute(job_rows.INSERT, job_rows.inserted(job(3), Seal()))
    db.execute(needs.INSERT, (NEED.key, encode_need(NEED), 3))
    db.execute(task_rows.INSERT, task_rows.inserted(row, 3, Seal()))
    *facts, _, _, _, _ = unpack("task", task_rows.updated(row)[2])
    db.execute("UPDATE tasks SET facts = ?", (msgpack.packb((4, *facts)),))
    again = task_rows.task_row(db.execute(task_rows.SELECT_ONE, ("0-a", 2, 1)).fetchone(), Seal())
    row.at_once, row.written_off, row.lease_lasts, row.price = 0, False, 0, 0
    assert slots(again, MEMORY_OF_TASK) == slots(row, MEMORY_OF_TASK)


@pytest.mark.parametrize("had", [0, 1], ids=["before it had a price", "with a price"])
def test_a_task_of_schema_10_is_read(db: sqlite3.Connection, had: int) -> None:
    row = full_task()
    row.reserves, row.price = None, 7
    db.execute(job_rows.INSERT, job_rows.inserted(job(3), Seal()))
    db.execute(needs.INSERT, (NEED.key, encode_need(NEED), 3))
    db.execute(task_rows.INSERT, task_rows.inserted(row, 3, Seal()))
    *facts, price = unpack("task", task_rows.updated(row)[2])
    db.execute("UPDATE tasks SET facts = ?", (msgpack.packb((10, *facts, *[price][:had])),))
    again = task_rows.task_row(db.execute(task_rows.SELECT_ONE, ("0-a", 2, 1)).fetchone(), Seal())
    row.price *= had
    assert slots(again, MEMORY_OF_TASK) == slots(row, MEMORY_OF_TASK)
    ends = [[1, 0, NEED.key, [*facts, *[price][:had]]]]
    assert unpack("endings", msgpack.packb((10, ends))) == [[[1, 0, NEED.key, [*facts, row.price]]]]


def test_a_fan_out_comes_back_with_the_chunks_that_are_left(db: sqlite3.Connection, seal: Seal) -> None:
    one, two, three = ((NewTask(f"t{n}", n, NEED, b"{}", 0.0, 1, 2, 3, RetryPolicy(), TRACE),) for n in range(3))
    fan = FanOut("0-a", 2, 5, True, (one, two, three), 99, 5)
    fan.pending, fan.spawned, fan.queued, fan.failed, fan.progress, fan.bytes, fan.over = 4, 2, 1, 1, 12.5, 99, True
    db.executemany(fan_rows.INSERT_CHUNK, fan_rows.chunks(fan, 3, seal))
    fan.chunks = (two, three)
    db.execute(fan_rows.DELETE_CHUNKS, (3, len(fan.chunks)))
    db.execute(fan_rows.REPLACE, fan_rows.replaced(fan, 3))
    stored = db.execute(fan_rows.SELECT_CHUNKS).fetchall()
    left, times = zip(*(fan_rows.opened_chunk("0-a", place, chunk, seal) for _, place, chunk in stored), strict=True)
    again = fan_rows.fan_row(db.execute(fan_rows.SELECT_LIVE).fetchone(), "0-a", left, times[0])
    assert slots(again, set()) == slots(fan, set())


@pytest.mark.parametrize("name", sorted(MEMORY_OF_JOB - {"fan"}))
def test_a_job_that_changed_only_in_memory_is_not_written(name: str) -> None:
    row = full_job()
    before = row.snapshot()
    setattr(row, name, "something else")
    assert not job_rows.changed(row, before)


@pytest.mark.parametrize("name", sorted(MEMORY_OF_TASK))
def test_a_task_that_changed_only_in_memory_is_not_written(name: str) -> None:
    row = full_task()
    before = row.snapshot()
    setattr(row, name, 99)
    assert not task_rows.changed(row, before)


def test_a_need_is_deleted_when_only_jobs_are_left_that_are_much_newer_than_its_own(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "holon.db", isolation_level=None)) as db:
        upgrade(db, tmp_path / "holon.db")
        for key, job in (("old", 5), ("used again", 5), ("used again", 30_000), ("new", 25_000)):
            db.execute(needs.INSERT, (key, b"", job))
        db.execute("CREATE TEMP VIEW jobs AS SELECT 20000 n")
        db.execute(needs.PURGE, db.execute(needs.OLDEST).fetchone())
        assert {key for (key,) in db.execute("SELECT key FROM needs")} == {"used again", "new"}


def test_a_need_stays_while_it_is_used_though_it_is_not_written_for_each_job(tmp_path: Path) -> None:
    known, written = needs.Needs(), 0
    with closing(sqlite3.connect(tmp_path / "holon.db", isolation_level=None)) as db:
        upgrade(db, tmp_path / "holon.db")
        db.execute("CREATE TEMP TABLE jobs (n INTEGER)")
        for job in range(1, 100_000, 1_000):
            if known.lacks("key", job):
                db.execute(needs.INSERT, ("key", b"", job))
                known.add("key", job)
                written += 1
            # Of all jobs only this one is left.
            db.execute("DELETE FROM jobs")
            db.execute("INSERT INTO jobs VALUES (?)", (job,))
            db.execute(needs.PURGE, db.execute(needs.OLDEST).fetchone())
            assert db.execute("SELECT count(*) FROM needs").fetchone() == (1,), job
    assert written == 10
