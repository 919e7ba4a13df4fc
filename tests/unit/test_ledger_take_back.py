"""The ledger: what a transaction that failed leaves of queues and holds, which is nothing."""

from __future__ import annotations

import pytest

from holon.domain.matching import Need
from holon.domain.task import RetryPolicy
from holon.ports import NewTask, StoreSettings
from holon.storage.ledger import backlog
from holon.storage.ledger.rows import JobRow, TaskRow, TaskState
from holon.storage.ledger.tables import Tables

T, U = Need("t"), Need("u")


def tables_with(tasks: int) -> Tables:
    """Tables in which so many tasks wait, written."""
    tables = Tables(StoreSettings("n"))
    tables.add_job(JobRow(tables.number(), "0-a", "ann", "bp", "running", b"", 0, 0))
    for index in range(tasks):
        enqueue(tables, index, T)
    tables.done()
    return tables


def enqueue(tables: Tables, index: int, need: Need) -> None:
    new = NewTask(f"0-a-0-{index}", index, need, b"{}", 0.0, 0, None, None, RetryPolicy())
    row = TaskRow.made(tables.number(), "0-a", 0, new, True, 0)
    tables.add_task(row)
    tables.backlog.enqueue(row)


def take(tables: Tables, need: Need = T) -> TaskRow | None:
    """The next task, offered."""
    for row in tables.backlog.take((need.key,), "w", frozenset(), 0, 1):
        tables.edit(row).state = TaskState.OFFERED
        return row
    return None


def left(tables: Tables) -> list[int]:
    """The places of the tasks that are taken until nothing waits."""
    places = []
    while (row := take(tables)) is not None:
        places.append(row.index)
    return places


def test_what_was_taken_waits_again_in_its_order() -> None:
    tables = tables_with(5)
    assert [take(tables), take(tables)] == [tables.tasks["0-a-0-0"], tables.tasks["0-a-0-1"]]
    tables.take_back()
    assert tables.backlog.waiting == {T.key: 5}
    assert left(tables) == [0, 1, 2, 3, 4]


def test_a_queue_that_was_emptied_is_there_again_also_when_others_came_to_it_later() -> None:
    tables = tables_with(3)
    assert left(tables) == [0, 1, 2]
    assert tables.backlog.waiting == {}
    enqueue(tables, 3, T)
    tables.take_back()
    assert tables.backlog.waiting == {T.key: 3}
    assert tables.backlog.needs == {T.key: T}
    assert left(tables) == [0, 1, 2]


def test_what_came_is_gone_with_its_queue() -> None:
    tables = tables_with(1)
    enqueue(tables, 1, T)
    enqueue(tables, 2, U)
    tables.take_back()
    assert (tables.backlog.waiting, tables.backlog.needs) == ({T.key: 1}, {T.key: T})
    assert set(tables.tasks) == {"0-a-0-0"}
    assert left(tables) == [0]
    assert tables.backlog.entries == 0


def test_what_came_and_comes_again_is_taken_once() -> None:
    tables = tables_with(1)
    enqueue(tables, 1, T)
    enqueue(tables, 2, T)
    tables.take_back()
    enqueue(tables, 1, T)
    enqueue(tables, 2, T)
    assert [row.index for row in tables.backlog.take((T.key,), "w", frozenset(), 0, 9)] == [0, 1, 2]
    assert tables.backlog.waiting == {}


def test_a_queue_that_was_rid_of_what_did_not_count_has_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_STALE", 2)
    tables = tables_with(20)
    for index in range(19):
        row = tables.edit(tables.tasks[f"0-a-0-{index}"])
        row.state = TaskState.OVER
        tables.backlog.dequeued(row)
    assert tables.backlog.entries < 20
    tables.take_back()
    assert tables.backlog.waiting == {T.key: 20}
    assert left(tables) == list(range(20))


def test_a_job_that_was_not_written_is_gone_with_its_request() -> None:
    tables = tables_with(0)
    row = JobRow(tables.number(), "0-b", "ann", "bp", "running", b"", 0, 0)
    row.request_id = "r"
    tables.add_job(row)
    tables.take_back()
    assert set(tables.jobs) == {"0-a"}
    assert tables.request("ann", "r") is None


def test_leases_count_as_they_did() -> None:
    tables = tables_with(0)
    worker = tables.worker("w")
    for lease in ("kept", "lost"):
        tables.take_hold(worker, lease, f"task of {lease}")
    tables.done()
    tables.take_hold(worker, "new", "task of new")
    tables.take_hold(worker, "kept", "task of kept")
    tables.lose_hold(worker, "lost")
    tables.lose_hold(worker, "kept")
    tables.take_back()
    assert worker.held == {"kept": "task of kept", "lost": "task of lost"}


def test_a_late_result_that_was_not_told_after_all_is_told_the_next_time() -> None:
    tables = tables_with(1)
    owner, task = tables.jobs["0-a"], tables.tasks["0-a-0-0"]
    for durable in (False, True):
        late = tables.late(owner, task, "w")
        assert late.told == 0
        tables.edit(late).told += 1
        (tables.done if durable else tables.take_back)()
    tables.edit(tables.late(owner, task, "w")).told += 1
    tables.take_back()
    assert tables.late(owner, task, "w").told == 1
